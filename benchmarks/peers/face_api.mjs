// Age and gender of the best face of each image, by face-api: a line of JSON for each on stdout.
//
//   printf '%s\n' chips/*.jpg | node face_api.mjs PACKAGES [--no-detect]
//
// PACKAGES is the folder where package.json is installed. The detector's settings are those of its
// manual for a face that fills the picture, with a threshold of 0.1, as in its demo for Node: at the
// default, 416 pixels and 0.5, it finds a face in one chip of ten.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const [packages, option] = process.argv.slice(2);
const detects = option !== '--no-detect';
const require = createRequire(path.resolve(packages, 'package.json'));
const folderOf = (name) => path.dirname(require.resolve(`${name}/package.json`));

const tf = require('@tensorflow/tfjs');
const wasm = require('@tensorflow/tfjs-backend-wasm');
const faceapi = require('@vladmandic/face-api/dist/face-api.node-wasm.js');
const sharp = require('sharp');

wasm.setWasmPaths(`${folderOf('@tensorflow/tfjs-backend-wasm')}/dist/`);
await tf.setBackend('wasm');
await tf.ready();
const detector = new faceapi.TinyFaceDetectorOptions({ inputSize: 160, scoreThreshold: 0.1 });
const needed = detects ? ['tinyFaceDetector', 'faceLandmark68Net', 'ageGenderNet'] : ['ageGenderNet'];
for (const name of needed) {
  await faceapi.nets[name].loadFromDisk(`${folderOf('@vladmandic/face-api')}/model`);
}

/** Age and gender of the face in a tensor (height, width, 3); undefined: no face was found. */
function estimate(pixels) {
  if (!detects) return faceapi.nets.ageGenderNet.predictAgeAndGender(pixels);
  return faceapi.detectSingleFace(pixels, detector).withFaceLandmarks().withAgeAndGender();
}

for (const image of readFileSync(0, 'utf8').split('\n').filter(Boolean)) {
  const raw = sharp(image).removeAlpha().toColourspace('srgb').raw();
  const { data, info } = await raw.toBuffer({ resolveWithObject: true });
  const pixels = tf.tensor3d(new Uint8Array(data), [info.height, info.width, 3], 'int32');
  const { age = null, gender = null } = (await estimate(pixels)) ?? {};
  pixels.dispose();
  process.stdout.write(`${JSON.stringify({ image, age, gender })}\n`);
}
