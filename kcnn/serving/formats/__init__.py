"""An export's network in the formats of other runtimes, each a folder in the version's `assets.extra`.

Each takes `images`, RGB of 0 to 255 as the export's preprocessing leaves them, [N, h, w, 3], float32 (tflite-int8:
uint8). It answers `probabilities` float32 [N, C], `logits` float32 [N, C] and `embedding` float32 [N, D], in this
order. It holds the metadata of the export.

catalogue.py   the table of the formats
source.py      the network that all formats are made of: in float32, folded, followed by temperature and softmax
onnx.py, openvino.py, tflite.py, tfjs.py   a family each: `write`, `load`, `read_metadata`
parity.py      whether they answer held-out files as the evaluation did
answers.py     the program that asks them, in a process of its own
"""
