"""The pocket model behind LitServe, with its batches of up to 8: what waits within 10 ms is drawn together."""

import base64
import sys
from typing import Any

# LitServe would use the mcp of this checkout, whose version it doesn't know; nothing here needs it.
sys.modules["mcp"] = None  # type: ignore[assignment]  # Python's own mark for "can't be imported"

import litserve  # noqa: E402 (only after mcp is hidden)
from pocket import draw, load  # noqa: E402 (as above)


class Model(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.pipeline: Any = load()

    def decode_request(self, request: dict[str, Any]) -> tuple[str, int]:
        return request["prompt"], request["seed"]

    def batch(self, inputs: list[tuple[str, int]]) -> list[tuple[str, int]]:
        return inputs

    def predict(self, inputs: list[tuple[str, int]]) -> list[bytes]:
        return draw(self.pipeline, inputs)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output: bytes) -> dict[str, str]:
        return {"png": base64.b64encode(output).decode()}


if __name__ == "__main__":
    server = litserve.LitServer(Model(max_batch_size=8, batch_timeout=0.01), accelerator="cpu", timeout=600)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
