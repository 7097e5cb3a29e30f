"""Animate a photograph of a face with a video: X2Face in PyTorch.

>>> from x2face_nb import animate
>>> animate("me.jpg", "talk.mp4", "out.mp4")
"""
__version__ = "0.1.0"

import sys
from importlib import import_module
from importlib.machinery import PathFinder, SourceFileLoader
from types import ModuleType

# module → the names that `from x2face_nb import …` finds. Each is imported when it is first asked for.
_NAMES = {
    "core": ("X2FaceError",),
    "video": ("VideoReader", "VideoWriter", "read_image", "write_image"),
    "faces": ("FaceDetector", "crop_still"),
    "x2face": ("X2Face", "load_model"),
    "animate": ("Animator", "EmbeddedFace", "animate"),
}
_MODULE = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_MODULE)


def __getattr__(name):
    if name not in _MODULE: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)
    return value


def __dir__(): return sorted({*globals(), *__all__})


class _Package(ModuleType):
    def __setattr__(self, name, value):
        "`x2face_nb.animate` is the function, also once the module of that name has been imported."
        if not (name in _MODULE and isinstance(value, ModuleType)): super().__setattr__(name, value)


class _Loader(SourceFileLoader):
    def exec_module(self, module):
        "Import a module and add its parameters to its docstrings."
        super().exec_module(module)
        from .docs import document
        document(module)


class _Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        "Give the modules of this package `_Loader`."
        package, _, module = name.rpartition(".")
        if package != __name__ or module in ("__main__", "docs", "_modidx"): return None
        spec = PathFinder.find_spec(name, path)
        if spec and isinstance(spec.loader, SourceFileLoader): spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


sys.modules[__name__].__class__ = _Package
sys.meta_path.insert(0, _Finder)
