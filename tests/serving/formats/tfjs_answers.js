// What TensorFlow.js itself makes of a graph model.
//   node tfjs_answers.js MODEL_JSON INPUT_JSON ANSWERS_JSON
// INPUT_JSON: {"shape": [...], "data": [...]}. ANSWERS_JSON: output → the same, and "metadata".
const fs = require("fs");
const path = require("path");
const tf = require("@tensorflow/tfjs-core");
require("@tensorflow/tfjs-backend-cpu");
const { loadGraphModel } = require("@tensorflow/tfjs-converter");

async function main(modelFile, inputFile, answersFile) {
  const model = JSON.parse(fs.readFileSync(modelFile));
  const [{ paths, weights }] = model.weightsManifest;
  const parts = paths.map((name) => fs.readFileSync(path.join(path.dirname(modelFile), name)));
  const joined = Uint8Array.from(Buffer.concat(parts)).buffer;
  await tf.setBackend("cpu");
  const loaded = await loadGraphModel({
    load: async () => ({ ...model, weightSpecs: weights, weightData: joined }),
  });
  const input = JSON.parse(fs.readFileSync(inputFile));
  const names = Object.keys(model.signature.outputs);
  const outputs = loaded.execute({ images: tf.tensor(input.data, input.shape, "float32") }, names);
  const answers = { metadata: loaded.metadata };
  names.forEach((name, index) => {
    answers[name] = { shape: outputs[index].shape, data: Array.from(outputs[index].dataSync()) };
  });
  fs.writeFileSync(answersFile, JSON.stringify(answers));
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error.stack);
  process.exit(1);
});
