"""The animated pictures of README and of the lessons, from the packaged samples and weights: python tools/pictures.py [NAME …]

animation  a portrait that follows a conversation
turns      a head that turns, nods and tilts from -30° to 30°
painted    an embedded face, painted once, that follows a conversation
voice      two portraits that say a sentence of somebody else
"""
import sys
import tempfile
from pathlib import Path

import cv2
import house
import numpy as np
from PIL import Image
from x2face_nb import VideoReader, animate, write_image
from x2face_nb.animate import Animator, source_crops
from x2face_nb.audio import RATE, AudioDriver, read_sound
from x2face_nb.control import PoseDriver, sweep
from x2face_nb.samples import sample_driving, sample_source, sample_speech
from x2face_nb.viz import side_by_side

FOLDER = house.ROOT / "nbs/images"
SMALL = 300_000  # bytes; larger films take too long to appear in a lesson


def film(
    folder:Path, # for the video
    source:Path, # picture of a face
    driving, # as for `animate`
    **options, # of `animate`
) -> list[np.ndarray]: # uint8 RGB
    "The frames of a generated video."
    made = animate(source, driving, folder / "film.mp4", cache=False, progress=False, **options)
    with VideoReader(made.path) as r: return list(r)


def animation(folder:Path) -> tuple[list[np.ndarray], float]: # frames, and how many a second
    "Source, driving and generated frames of the sample conversation beside each other."
    return film(folder, sample_source(), sample_driving(), size=256, compare=True, stop=7., fps=12.5), 12.5


def turns(folder:Path) -> tuple[list[np.ndarray], float]:
    "The sample portrait turned about each axis."
    ways = [film(folder, sample_source(), PoseDriver(sweep(**{k: "0:-30:30:0"}, fps=12.5)), size=160) for k in ("yaw", "pitch", "roll")]
    return [side_by_side(gens, ("yaw", "pitch", "roll"), 160) for gens in zip(*ways)], 12.5


def ink(face:np.ndarray) -> np.ndarray: # (S,S,3) embedded face → (S,S,4) uint8 RGBA
    "A star on a cheek and letters on the forehead."
    layer = np.zeros((*face.shape[:2], 4), np.uint8)
    star = [(156 + r * np.sin(k * np.pi / 5), 144 - r * np.cos(k * np.pi / 5)) for k, r in enumerate([9, 3.6] * 5)]
    cv2.fillPoly(layer, [np.round(np.array(star) * 16).astype(np.int32)], (200, 30, 60, 255), cv2.LINE_AA, 4)
    cv2.putText(layer, "X2", (90, 94), cv2.FONT_HERSHEY_SIMPLEX, .55, (20, 60, 200, 255), 2, cv2.LINE_AA)
    return layer


def painted(folder:Path) -> tuple[list[np.ndarray], float]:
    "The painted embedded face, the driver, and the generated frames."
    (portrait, _, _), = source_crops(sample_source(), 256)
    emb, layer = Animator(cache=False).embed(portrait), folder / "ink.png"
    Image.fromarray(ink(emb.picture())).save(layer)
    gens = film(folder, sample_source(), sample_driving(), edit=layer, stop=4., fps=12.5)
    compared = film(folder, sample_source(), sample_driving(), compare=True, stop=4., fps=12.5)
    drvs = [f[-256:, (f.shape[1] - 256) // 2:][:, :256] for f in compared] # the middle picture, without its title
    face, titles = emb.edited(ink(emb.picture())).picture(), ("embedded face, painted", "driving", "generated")
    return [side_by_side([face, *pair], titles, 160) for pair in zip(drvs, gens)], 12.5


def voice(folder:Path, seconds:float=2.6, fps:float=25.) -> tuple[list[np.ndarray], float]:
    "Two portraits say the same words; below them is the sound, with a line at the frame's time."
    with VideoReader(sample_driving("carphone")) as r: write_image(folder / "man.png", next(iter(r)))
    gens = [film(folder, s, AudioDriver(sample_speech()), size=192)[:round(seconds * fps)] for s in (sample_source(), folder / "man.png")]
    frames, loud = [side_by_side(pair, (), 192) for pair in zip(*gens)], np.abs(read_sound(sample_speech())[:round(seconds * RATE)])
    width = frames[0].shape[1]
    peaks = np.array([part.max() for part in np.array_split(loud, width)]) / loud.max() * 22
    wave = np.full((48, width, 3), 255, np.uint8)
    for x, y in enumerate(peaks.round().astype(int)): wave[24 - y:25 + y, x] = 90, 120, 200
    def below(i): return cv2.line(wave.copy(), (x := round(i / len(frames) * width), 0), (x, 47), (220, 60, 40), 2)
    return [np.vstack([f, below(i)]) for i, f in enumerate(frames)], fps


FILMS = dict(animation=(animation, 3_000_000, 70), turns=(turns, SMALL, 55), painted=(painted, SMALL, 50), voice=(voice, SMALL, 55)) # bytes, quality


def write(
    name:str, # one of `FILMS`
) -> Path:
    "A picture that moves by itself, in nbs/images."
    make, most, quality = FILMS[name]
    with tempfile.TemporaryDirectory() as d: frames, fps = make(Path(d))
    out, images = FOLDER / f"{name}.webp", [Image.fromarray(f) for f in frames]
    images[0].save(out, save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0, quality=quality, method=6)
    if out.stat().st_size > most: sys.exit(f"{out} has {out.stat().st_size} bytes, more than {most}; make it shorter or smaller.")
    return out


if __name__ == "__main__":
    for name in sys.argv[1:] or FILMS: print(f"{(at := write(name))}: {at.stat().st_size / 1e6:.2f} MB")
