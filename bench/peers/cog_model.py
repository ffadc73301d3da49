"""The pocket model behind Cog's own server (coglet). A prediction at a time, as Cog does without `concurrency`."""

import tempfile
from typing import Any

from cog import BasePredictor, Input, Path
from pocket import draw, load


class Predictor(BasePredictor):
    def setup(self) -> None:
        self.pipeline: Any = load()

    def predict(self, prompt: str = Input(description="a prompt"), seed: int = Input(default=0)) -> Path:
        with tempfile.NamedTemporaryFile(suffix=".png", delete=False) as file:
            file.write(draw(self.pipeline, [(prompt, seed)])[0])
        return Path(file.name)
