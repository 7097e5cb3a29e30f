"Frames are those that were recorded: to the bit where torch and the processor are the same, else to rounding."
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from x2face_nb.animate import Animator
from x2face_nb.core import file_hash
from x2face_nb.samples import sample_driving, sample_source
from x2face_nb.engine import TorchEngine
from x2face_nb.evaluation import RECORDED, generate_methods
from x2face_nb.render import RENDERINGS
from x2face_nb.video import read_image, read_video, resize, to_tensor
from x2face_nb.x2face import load_model, pretrained_path

FILE = Path(__file__).with_name("frames.json")
KEPT, is_recording = json.loads(FILE.read_text()), False # `python tests/test_render.py` records
ROWS = dict(flip="flip", refined="refined", twice_flip=RENDERINGS["flip"].replace(composed=False),
            twice_refined=RENDERINGS["refined"].replace(composed=False))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    "The number of threads decides in which order sums are made."
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


@pytest.fixture(scope="module")
def faces():
    "One portrait, two sources of one person, two driving crops; no detector, whose boxes may change."
    portrait = resize(read_image(sample_source())[:360, 60:420], 256)
    talk = [resize(f[:, 16:160], 256) for f in read_video(sample_driving("carphone"), stop=1.)[::8][:3]]
    return dict(one=[portrait], two=talk[:2]), np.stack(talk[1:])


def check(key, x):
    "One recorded array, against what is made now; while frames are recorded, it is replaced."
    kept, x = KEPT["frames"][key], np.ascontiguousarray(x.detach().numpy() if torch.is_tensor(x) else x)
    if not is_recording: assert list(x.shape) == kept["shape"]
    t = torch.from_numpy(x)
    if x.dtype == np.uint8: t = (t if t.ndim == 4 else t[None]).permute(0, 3, 1, 2) / 255
    small = torch.nn.functional.adaptive_avg_pool2d(t.float().reshape(-1, *t.shape[-2:])[None], 4).flatten()
    if is_recording:
        small = [round(v) for v in (1000 * small).tolist()]
        KEPT["frames"][key] = dict(sha=hashlib.sha256(x.tobytes()).hexdigest()[:16], shape=list(x.shape), small=small)
        return
    np.testing.assert_allclose(small, np.array(kept["small"]) / 1000, atol=3e-3)  # a grey level is .004
    if (torch.__version__, torch.backends.cpu.get_cpu_capability()) == (KEPT["torch"], KEPT["capability"]):
        assert hashlib.sha256(x.tobytes()).hexdigest()[:16] == kept["sha"], key


def test_weights_are_those_recorded():
    if is_recording: KEPT.update(weights=file_hash(pretrained_path()), torch=torch.__version__, capability=torch.backends.cpu.get_cpu_capability())
    assert file_hash(pretrained_path()) == KEPT["weights"], "other packaged weights make other frames: record them again (python tests/test_render.py)"


@pytest.mark.parametrize("row", ROWS)
def test_animator(row, faces):
    animator = Animator(cache=False, device="cpu", render=ROWS[row])
    for k, srcs in faces[0].items():
        if f"animator/{row}/{k}" not in KEPT["frames"]: continue
        emb = animator.embed(srcs)
        check(f"animator/{row}/{k}/face", emb.face)
        check(f"animator/{row}/{k}", animator.drive(emb, faces[1]))
        check(f"animator/{row}/{k}/192", animator.drive(emb, faces[1][0], 192))


@pytest.mark.parametrize("row", [r for r in ROWS if "refined" in r])
def test_engine(row, faces):
    engine, animator = TorchEngine(threads=1), Animator(cache=False, device="cpu", render=ROWS[row])
    for k, srcs in faces[0].items():
        if f"engine/{row}/{k}" not in KEPT["frames"]: continue
        render = engine.renderer(animator.embed(srcs), 192, ROWS[row])
        flow = engine.drive(faces[1][0], render)
        check(f"engine/{row}/{k}/flow", flow)
        check(f"engine/{row}/{k}", render(flow))
        check(f"engine/{row}/{k}/places", np.moveaxis(render.places(flow)[0], -1, 0))


@pytest.mark.parametrize("k", ("one", "two"))
def test_evaluation_and_paper(k, faces):
    model, srcs, drv = load_model(), to_tensor(faces[0][k]), to_tensor(faces[1])
    made, was = generate_methods(model, srcs, drv), {v: k for k, v in RECORDED.items()}
    with torch.inference_mode(): whole = model(srcs[None], drv)
    for name, gen in made.items(): check(f"evaluation/{was.get(name, name)}/{k}", gen)
    for name in ("gen", "face", "embed_flow", "drive_flow"): check(f"forward/{name}/{k}", getattr(whole, name))
    assert torch.equal(made["paper"], whole.gen)


if __name__ == "__main__":
    is_recording = True
    sys.modules["test_render"] = sys.modules["__main__"]
    failed = pytest.main([__file__, "-q", "-p", "no:cacheprovider"])
    if not failed: FILE.write_text(json.dumps(KEPT) + "\n")
    sys.exit(failed)
