// The page: shows a photo, asks the server, draws what it says. No library, no other server.
"use strict";

const find = (id) => document.getElementById(id);
const [model, file, drop, camera, shoot, video, canvas, status, faces, caution] = [
  "model", "file", "drop", "camera", "shoot", "video", "photo", "status", "faces", "caution",
].map(find);
const [frame, boxes, clear, json, card] = ["frame", "boxes", "clear", "json", "card"].map(find);

let limits = { max_upload: Infinity };
let photo = null; // the Blob that is shown
let record = null; // the server's answer for it
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

function forget() {
  asked += 1;
  photo = record = null;
  faces.replaceChildren();
  boxes.replaceChildren();
  frame.hidden = clear.hidden = json.hidden = caution.hidden = true;
}

async function show(blob) {
  if (!blob) return;
  if (blob.size > limits.max_upload) {
    tell(`The photo has more than ${limits.max_upload / 1e6} MB`, true);
    return;
  }
  forget();
  photo = blob;
  const question = asked;
  clear.hidden = false;
  tell("Looking …");
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
    record = answer;
    json.hidden = false;
    if (picture) draw(picture, answer.faces);
    caution.textContent = (answer.cautions || []).join(" ");
    caution.hidden = !answer.cautions;
    answer.faces.forEach((face, index) => faces.append(describe(face, index + 1, answer.model)));
    const number = answer.faces.length;
    const kind = answer.calibrated ? "calibrated probabilities" : "probabilities, not calibrated";
    tell(number ? `${number} ${number === 1 ? "face" : "faces"}; ${kind}` : "No face found");
  } catch (error) {
    if (question !== asked) return;
    tell(error.message, true);
    clear.hidden = !picture; // nothing is shown that could be cleared
  }
}

function draw(picture, found) {
  canvas.width = picture.width;
  canvas.height = picture.height;
  frame.hidden = false;
  canvas.setAttribute("aria-label", `The photo, ${found.length} faces boxed`);
  const pen = canvas.getContext("2d");
  pen.drawImage(picture, 0, 0);
  const size = Math.max(12, Math.min(picture.width, picture.height) / 18);
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.textBaseline = "top";
  boxes.replaceChildren();
  found.forEach((face, index) => {
    const [x1, y1, x2, y2] = face.box;
    pen.strokeStyle = pen.fillStyle = "#ffd60a";
    pen.lineWidth = Math.max(2, size / 8);
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
    pen.fillRect(x1, y1, size * 1.2, size * 1.2);
    pen.fillStyle = "#141414";
    pen.fillText(index + 1, x1 + size * 0.3, y1 + size * 0.12);
    const box = element("button", "", boxes);
    box.type = "button";
    box.setAttribute("aria-label", `Face ${index + 1}`);
    box.style.left = `${(100 * x1) / picture.width}%`;
    box.style.top = `${(100 * y1) / picture.height}%`;
    box.style.width = `${(100 * (x2 - x1)) / picture.width}%`;
    box.style.height = `${(100 * (y2 - y1)) / picture.height}%`;
    box.addEventListener("click", () => faces.children[index]?.scrollIntoView({ block: "nearest" }));
    light(box, index);
  });
}

// A box and its card light up together.
function light(part, index) {
  const set = (lit) => () => {
    boxes.children[index]?.classList.toggle("lit", lit);
    faces.children[index]?.classList.toggle("lit", lit);
  };
  for (const event of ["pointerenter", "focusin"]) part.addEventListener(event, set(true));
  for (const event of ["pointerleave", "focusout"]) part.addEventListener(event, set(false));
}

function describe(face, number, name) {
  const item = document.createElement("li");
  const tasks = Object.entries(face).filter(([key]) => key !== "score" && key !== "box");
  element("h2", `Face ${number}`, item);
  const verdict = element("dl", "", item);
  verdict.className = "verdict";
  for (const [task, said] of tasks) {
    element("dt", task, verdict);
    const years = said.years === undefined ? "" : ` (about ${Math.round(said.years)})`;
    element("dd", said.class + years, verdict).className = "class";
    const share = said.probabilities[said.class];
    element("dd", percent(share), verdict).className = "number";
    element("meter", percent(share), element("dd", "", verdict)).value = share;
  }
  const details = element("details", "", item);
  element("summary", "All probabilities", details);
  for (const [task, said] of tasks) {
    const table = element("table", "", details);
    element("caption", task, table);
    for (const [label, share] of Object.entries(said.probabilities)) {
      const row = table.insertRow();
      row.classList.toggle("chosen", label === said.class);
      element("th", label, row).scope = "row";
      element("meter", percent(share), row.insertCell()).value = share;
      row.insertCell().textContent = percent(share);
    }
  }
  const bar = element("div", "", item);
  bar.className = "bar";
  const button = element("button", "Where did it look?", bar);
  button.type = "button";
  button.setAttribute("aria-label", `Where did it look at face ${number}?`);
  button.addEventListener("click", () => explain(button, number, tasks, name));
  light(item, number - 1);
  return item;
}

async function explain(button, face, tasks, name) {
  button.disabled = true;
  const heat = document.createElement("div");
  heat.className = "heat";
  try {
    for (const [task, said] of tasks) {
      const answer = await ask("explain", { model: name, face, task }, photo);
      const figure = element("figure", "", heat);
      const image = element("img", "", figure);
      image.alt = `Face ${face}, brightest where it spoke most for ${task} ${said.class}`;
      image.src = URL.createObjectURL(await answer.blob());
      image.addEventListener("load", () => URL.revokeObjectURL(image.src));
      element("figcaption", `Bright: spoke for ${said.class}`, figure);
    }
    button.replaceWith(heat);
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
model.addEventListener("change", () => {
  linkCard();
  show(photo);
});
clear.addEventListener("click", () => {
  forget();
  file.value = "";
  tell("Ready");
  file.focus();
});
json.addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(record, null, 2)]));
  link.download = "faces.json";
  link.click();
  URL.revokeObjectURL(link.href);
});
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", async () => {
    show(await (await fetch(button.dataset.example)).blob());
  });
}
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

function linkCard() {
  card.hidden = !limits.cards?.includes(model.value);
  card.href = `api/card?${new URLSearchParams({ model: model.value })}`;
}

fetch("api/models")
  .then((response) => response.json())
  .then((found) => {
    limits = found;
    model.replaceChildren(...found.models.map((name) => new Option(name, name)));
    linkCard();
    tell("Ready");
  })
  .catch((error) => tell(error.message, true));
