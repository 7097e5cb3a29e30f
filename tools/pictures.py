"""The animated picture of README, from the packaged samples and weights: python tools/pictures.py [SECONDS]"""
import sys
import tempfile
from pathlib import Path

import house
from PIL import Image
from x2face_nb import VideoReader, animate
from x2face_nb.samples import sample_driving, sample_source

OUT = house.ROOT / "nbs/images/animation.webp"
LIMIT = 3_000_000  # bytes; larger ones take too long to appear


def animation(
    out:Path, # .webp to write
    start:float=0., stop:float=7., # part of the sample conversation, seconds
    fps:float=12.5, # frames a second
    size:int=256, # side of a frame
) -> Path:
    "Source, driving and generated frames beside each other, as a picture that moves by itself."
    with tempfile.TemporaryDirectory() as d:
        film = Path(d)/"film.mp4"
        animate(sample_source(), sample_driving(), film, size=size, compare=True, start=start, stop=stop, fps=fps, cache=False)
        with VideoReader(film) as r: frames = [Image.fromarray(f) for f in r]
    out.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(out, save_all=True, append_images=frames[1:], duration=round(1000/fps), loop=0, quality=70, method=6)
    if out.stat().st_size > LIMIT: sys.exit(f"{out} has {out.stat().st_size} bytes; take fewer seconds.")
    return out


if __name__ == "__main__":
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 7.
    print(f"{animation(OUT, stop=seconds)}: {OUT.stat().st_size / 1e6:.1f} MB")
