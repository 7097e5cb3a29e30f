"""The package's gallery of motion templates, from its sample people: python tools/gallery.py [NAME …]

Talking, blinking and turning are taken from the sample film; nodding, shaking and tilting turn the sample portrait by degrees.
Each is kept with half the digits and twelve frames a second."""
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from x2face_nb.animate import Animator, read_motion, source_crops
from x2face_nb.control import PoseDriver, sweep
from x2face_nb.motion import record
from x2face_nb.samples import sample_driving, sample_source
from x2face_nb.x2face import pretrained_path

FPS = 12.
FILMS = {"talk": ("franck", 1., 4.), "blink": ("franck", 7., 9.5), "turn": ("franck", 19.4, 22.4)}  # film, first and last second
POSES = {"nod": dict(pitch="0:10:-4:8:0"), "shake": dict(yaw="0:14:-14:10:0"), "tilt": dict(roll="0:12:0:-12:0")}  # degrees


def template(name, animator):
    "A motion template of the gallery."
    if name in FILMS:
        film, start, stop = FILMS[name]
        return read_motion(sample_driving(film), animator, FPS, start, stop, progress=False)[0]
    (crop, _, _), = source_crops(sample_source())
    curve = sweep(**POSES[name], seconds=2.5, fps=FPS)
    still = record(animator.model, [(t, crop, 0) for t in curve.times], FPS, animator.weights_hash, animator.rendering)
    with tempfile.TemporaryDirectory() as d:
        driver = PoseDriver(curve, still.save(f"{d}/still.safetensors"))
        return driver.prepare(animator, animator.embed(crop), progress=False).template


def half(template):
    "The template with half the digits."
    wide = {k: v for k, v in vars(template).items() if isinstance(v, np.ndarray) and v.dtype == np.float32}
    return replace(template, **{k: np.float16(v) for k, v in wide.items()})


if __name__ == "__main__":
    animator, folder = Animator(cache=False), Path(pretrained_path()).parent / "motions"
    for name in sys.argv[1:] or [*FILMS, *POSES]:
        path = half(template(name, animator)).save(folder / f"{name}.safetensors")
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB", flush=True)
