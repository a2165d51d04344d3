"""What augmentations are made of: an image and a strength, nothing random. Each passes the pixels a few times at most.

keras-cv computes the same where it has the kernel, mostly slower. The definitions are Pillow's, but that values are not
rounded: images are float32 [h, w, 3] in 0-255. What is written here on `rows`, float32 [h, 3 * w], is so because
TensorFlow works on long rows several times as fast as on threes.
"""
