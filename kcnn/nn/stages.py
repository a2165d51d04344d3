"""The order of blocks in a network: stages, strides, and how often stochastic depth drops each block."""

import dataclasses
from collections.abc import Iterator, Sequence


@dataclasses.dataclass(frozen=True)
class BlockPosition:
    """The position of a block in its network, and what follows from it.

    Attributes:
        stage: number of the stage, from 1.
        stages: of the network.
        index: number of the block in its stage, from 1.
        strides: of the block, 1 or what its stage asks for.
        drop_rate: rate at which stochastic depth drops the block's residual branch, 0 to less than 1.
        name: the first words of its layers' names, "stage1_block1".
    """

    stage: int
    stages: int
    index: int
    strides: int
    drop_rate: float
    name: str


def block_positions(
    depths: Sequence[int],
    strides: Sequence[int],
    *,
    drop_path: float = 0.0,
    never_dropped: int = 0,
    strided: int = 0,
    kind: str = "block",
) -> Iterator[BlockPosition]:
    """Yield the blocks of a network in order, stage by stage.

    Args:
        depths: blocks of each stage.
        strides: of each stage.
        drop_path: rate at which the last block is dropped; earlier ones less, linearly (Huang et al., "Deep Networks
            with Stochastic Depth", ECCV 2016, section 3).
        never_dropped: blocks at the start whose rate is 0.
        strided: index, within a stage, of the block that has the stage's stride.
        kind: the word for a block in layers' names.
    """
    total, count = sum(depths), 0
    for stage, (depth, stride) in enumerate(zip(depths, strides, strict=True), start=1):
        for index in range(depth):
            count += 1
            yield BlockPosition(
                stage=stage,
                stages=len(depths),
                index=index + 1,
                strides=stride if index == strided % depth else 1,
                drop_rate=max(count - never_dropped, 0) / (total - never_dropped) * drop_path,
                name=f"stage{stage}_{kind}{index + 1}",
            )
