// The page: shows a photo, asks the server, draws what it says. No library, no other server.
"use strict";

const find = (id) => document.getElementById(id);
const [model, file, drop, camera, shoot, video, canvas, status, faces, caution] = [
  "model", "file", "drop", "camera", "shoot", "video", "photo", "status", "faces", "caution",
].map(find);

let limits = { max_upload: Infinity };
let photo = null; // the Blob that is shown
let asked = 0; // answers to older questions are dropped

function tell(text, error = false) {
  status.textContent = text;
  status.classList.toggle("error", error);
}

function element(name, text = "", parent = null) {
  const made = document.createElement(name);
  made.textContent = text;
  parent?.append(made);
  return made;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

async function ask(path, query, body) {
  const response = await fetch(`api/${path}?${new URLSearchParams(query)}`, { method: "POST", body });
  if (!response.ok) {
    const fault = await response.json().catch(() => ({ error: response.statusText }));
    throw new Error(fault.error);
  }
  return response;
}

async function show(blob) {
  if (!blob) return;
  if (blob.size > limits.max_upload) {
    tell(`The photo has more than ${limits.max_upload / 1e6} MB`, true);
    return;
  }
  photo = blob;
  const question = ++asked;
  faces.replaceChildren();
  tell("Looking …");
  canvas.hidden = true;
  let picture = null;
  try {
    picture = await createImageBitmap(blob);
  } catch {
    // A format that the server may know all the same.
  }
  if (question !== asked) return;
  if (picture) draw(picture, []);
  try {
    const answer = await (await ask("predict", { model: model.value }, blob)).json();
    if (question !== asked) return;
    if (picture) draw(picture, answer.faces);
    caution.textContent = (answer.cautions || []).join(" ");
    caution.hidden = !answer.cautions;
    answer.faces.forEach((face, index) => faces.append(describe(face, index + 1, answer.model)));
    const number = answer.faces.length;
    const kind = answer.calibrated ? "calibrated probabilities" : "probabilities, not calibrated";
    tell(number ? `${number} ${number === 1 ? "face" : "faces"}; ${kind}` : "No face found");
  } catch (error) {
    if (question === asked) tell(error.message, true);
  }
}

function draw(picture, found) {
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.hidden = false;
  canvas.setAttribute("aria-label", `The photo, ${found.length} faces boxed`);
  const pen = canvas.getContext("2d");
  pen.drawImage(picture, 0, 0);
  const size = Math.max(12, Math.min(picture.width, picture.height) / 18);
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.textBaseline = "top";
  found.forEach((face, index) => {
    const [x1, y1, x2, y2] = face.box;
    pen.strokeStyle = pen.fillStyle = "#ffd60a";
    pen.lineWidth = Math.max(2, size / 8);
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
    pen.fillRect(x1, y1, size * 1.2, size * 1.2);
    pen.fillStyle = "#141414";
    pen.fillText(index + 1, x1 + size * 0.3, y1 + size * 0.12);
  });
}

function describe(face, number, name) {
  const item = document.createElement("li");
  element("h2", `Face ${number}`, item);
  for (const [task, said] of Object.entries(face)) {
    if (task === "score" || task === "box") continue;
    const table = element("table", "", item);
    const years = said.years === undefined ? "" : `, about ${Math.round(said.years)} years`;
    element("caption", `${task}: ${said.class}${years}`, table);
    for (const [label, share] of Object.entries(said.probabilities)) {
      const row = table.insertRow();
      row.classList.toggle("chosen", label === said.class);
      element("th", label, row).scope = "row";
      const bar = element("meter", percent(share), row.insertCell());
      bar.value = share;
      row.insertCell().textContent = percent(share);
    }
    const button = element("button", "Where did it look?", item);
    button.type = "button";
    button.setAttribute("aria-label", `Where did it look for ${task} of face ${number}?`);
    button.addEventListener("click", () => explain(button, number, task, said.class, name));
  }
  return item;
}

async function explain(button, face, task, chosen, name) {
  button.disabled = true;
  try {
    const answer = await ask("explain", { model: name, face, task }, photo);
    const figure = document.createElement("figure");
    const image = element("img", "", figure);
    image.alt = `Face ${face}, brightest where it spoke most for ${task} ${chosen}`;
    image.src = URL.createObjectURL(await answer.blob());
    image.addEventListener("load", () => URL.revokeObjectURL(image.src));
    element("figcaption", `Bright: spoke for ${chosen}`, figure);
    button.replaceWith(figure);
  } catch (error) {
    button.disabled = false;
    tell(error.message, true);
  }
}

function stopCamera() {
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  video.hidden = shoot.hidden = true;
}

camera.addEventListener("click", async () => {
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
    video.hidden = false;
    await video.play();
    shoot.hidden = false;
    shoot.focus();
  } catch (error) {
    tell(`No camera: ${error.message}`, true);
  }
});

shoot.addEventListener("click", () => {
  const still = document.createElement("canvas");
  still.width = video.videoWidth;
  still.height = video.videoHeight;
  still.getContext("2d").drawImage(video, 0, 0);
  stopCamera();
  still.toBlob(show, "image/jpeg", 0.92);
});

file.addEventListener("change", () => show(file.files[0]));
model.addEventListener("change", () => show(photo));
document.addEventListener("paste", (event) => show(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  show(event.dataTransfer.files[0]);
});

fetch("api/models")
  .then((response) => response.json())
  .then((found) => {
    limits = found;
    model.replaceChildren(...found.models.map((name) => new Option(name, name)));
    tell("Ready");
  })
  .catch((error) => tell(error.message, true));
