"""The quickstart of the README, run as it stands there."""

import re
from pathlib import Path

import numpy as np
import timm
from safetensors.torch import save_file

from bayfed.seeds import stream

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_python_runs(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    drawn = timm.create_model("mobilenetv2_100", pretrained=False).state_dict()
    save_file(drawn, tmp_path / "FILE.safetensors")
    monkeypatch.chdir(tmp_path)
    images = list(stream(0, "quickstart").integers(0, 255, (3, 64, 48, 3)).astype(np.uint8))
    names = {"images": images}
    exec(compile(code, str(README), "exec"), names)  # our own text
    found = names["inspections"]
    assert len(found) == len(images)
    assert all(np.isfinite(one.score) and one.surprise is not None for one in found)
    assert Path("part.bayfed").stat().st_size < 2 << 20
