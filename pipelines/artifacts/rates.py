"""What RateFinder makes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kcnn.json_files import read_json
from pipelines.engine.component import Artifact

if TYPE_CHECKING:
    from kcnn.training.rate_finder import RateCurve


class FoundRate(Artifact):
    """The losses of a training at a rising learning rate, and the rate that they suggest.

    <path>/rates.json   the suggestion, the rate with the lowest loss, and every step's rate and loss
    <path>/rates.png    the same as a picture
    <path>/work         what the phases before the last left while it was found
    """

    head = "metrics"
    scratch = ("work",)

    @property
    def plot(self) -> Path:
        """The picture, which `kcnn.training.rate_finder.plot_rates` draws."""
        return self.path / "rates.png"

    def write(self, curve: "RateCurve") -> None:
        """Write what was found."""
        record = {
            "suggested": curve.suggested,
            "lowest": curve.lowest,
            "rates": list(curve.rates),
            "losses": list(curve.losses),
        }
        (self.path / "rates.json").write_text(json.dumps(record))

    def suggested(self) -> float:
        """Return the rate that is suggested."""
        return float(read_json(self.path / "rates.json", dict)["suggested"])

    def properties(self) -> dict[str, Any]:
        """Return the suggestion."""
        return {"suggested": self.suggested()}
