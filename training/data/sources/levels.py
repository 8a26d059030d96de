"""Folders of classes that are a level too high: splits of a data set, or folders around classes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from .listing import some

# fmt: off
_TRAINING_WORDS = (
    "train", "training", "trainval", "entrainement", "apprentissage", "entrenamiento", "treino",
    "treinamento", "addestramento", "trening", "treningowy", "trainen", "egitim", "тренировка",
    "обучение", "обучающая", "训练", "訓練", "学習", "トレーニング", "훈련", "학습",
)
_SPLIT_WORDS = (
    *_TRAINING_WORDS,
    "val", "valid", "validation", "validate", "test", "testing", "dev", "devel", "development",
    "eval", "evaluation", "holdout", "heldout", "unlabeled", "unlabelled",
    "validierung", "prufung",  # German, without its marks
    "validacion", "prueba", "pruebas", "evaluacion",  # Spanish
    "validacao", "teste", "testes",  # Portuguese
    "convalida", "validazione",  # Italian
    "walidacja", "testowy",  # Polish
    "validatie", "dogrulama",  # Dutch, Turkish
    "валидация", "проверка", "тест", "тестовая",
    "验证", "校验", "测试", "驗證", "測試",
    "検証", "評価", "テスト",
    "검증", "테스트",
)
_GROUPS = frozenset([
    "album", "batch", "cam", "camera", "cd", "chunk", "crops", "cropped", "data", "dataset", "day",
    "dir", "disk", "download", "downloads", "edited", "export", "extra", "fold", "folder", "frames",
    "group", "hd", "high", "hires", "image", "images", "img", "imgs", "import", "jpeg", "jpegs",
    "jpg", "large", "low", "lores", "medium", "misc", "more", "new", "old", "original", "originals",
    "other", "others", "page", "part", "photo", "photos", "pic", "pics", "picture", "pictures",
    "png", "pngs", "raw", "resized", "roll", "scene", "selected", "seq", "sequence", "session",
    "set", "shard", "small", "sub", "subset", "take", "various", "vid", "video", "vol", "volume",
])
"""Names of folders that group images of one class."""
_AFTER_SPLITS = (
    "dataset", "datasets", "set", "sets", "daten", "sdaten", "data", "split", "splits", "img",
    "imgs", "image", "images", "集", "组", "組", "用", "データ", "セット", "세트", "데이터",
)
# fmt: on
_DATE = re.compile(r"(19|20)[0-9]{2}([-_. ]?[0-9]{2}.*)?")
_SHORT_KEY = re.compile(r"[0-9]+|[0-9a-f]{1,3}")


@dataclass(slots=True)
class _Folder:
    folders: dict[str, _Folder] = field(default_factory=dict)
    has_images: bool = False
    """Whether it holds an image itself."""


def level_problem(root: str, files: Iterable[str], option: str) -> str | None:
    """What is wrong with the folders of ``root`` as classes, and which level was meant.

    ``files`` are the images, as paths below ``root`` with "/". None where nothing is surely wrong.
    ``option`` is the one by which the user names the root.
    """
    top = _tree(files)
    names = sorted(top.folders)
    if _are_splits(names):
        what = f"The folders in {root} ({some(names)}) are splits of a data set, not classes"
    elif _are_around_classes(top):
        inner = sorted({name for folder in top.folders.values() for name in folder.folders})
        what = (
            f"No folder in {root} ({some(names)}) holds an image itself, only their sub-folders "
            f"({some(inner)}) do, so these seem to be the classes"
        )
    else:
        return None
    return f"{what}: {_advice(root, top, option)}"


def split_problem(root: str, files: Iterable[str], option: str) -> str | None:
    """What is wrong where the images in ``root`` are of several splits, and classes do not matter.

    Arguments and result are those of ``level_problem``.
    """
    path, place = root, _tree(files)
    while len(place.folders) == 1 and not place.has_images:
        ((name, place),) = place.folders.items()
        path = f"{path}/{name}"
    names = sorted(place.folders)
    if len(names) < 2 or place.has_images or not _are_splits(names):
        return None
    return (
        f"The folders in {path} ({some(names)}) are splits of a data set; compare with one of "
        f"them, such as {option} {path}/{names[0]}."
    )


def _tree(files: Iterable[str]) -> _Folder:
    top = _Folder()
    for folder in {file.rpartition("/")[0] for file in files}:
        place = top
        for name in filter(None, folder.split("/")):
            place = place.folders.setdefault(name, _Folder())
        place.has_images = True
    return top


def _advice(path: str, place: _Folder, option: str) -> str:
    """Which folder holds the classes, looking downwards."""
    while _are_splits(place.folders) or _are_around_classes(place):
        names = sorted(place.folders)
        if len(names) > 1 and not _are_splits(names):
            one = some([f"{option} {path}/{name}" for name in names])
            return (
                f"name the folder around those that you mean ({one}), or put all into one folder."
            )
        name = min(names, key=lambda name: (_plain(name) not in _TRAINING, name))
        path, place = f"{path}/{name}", place.folders[name]
    if not place.folders or (len(place.folders) == 1 and all(map(_is_group, place.folders))):
        return "put the images into a folder for each class, or name a --metadata file."
    return f"name {path} as {option}, which holds {some(sorted(place.folders))}."


def _are_splits(names: Collection[str]) -> bool:
    return bool(names) and all(_plain(name) in _SPLITS for name in names)


def _are_around_classes(place: _Folder) -> bool:
    """Whether the folders of a level lie around those of classes.

    They do where none holds an image itself, unless what they hold groups images of one class.
    """
    folders = place.folders
    if not folders or any(folder.has_images for folder in folders.values()):
        return False
    if all(map(_is_group, folders)):
        return True
    inner = [item for folder in folders.values() for item in folder.folders.items()]
    # One folder alone may well be a data set of digits.
    keys_group = len(folders) > 1
    return not all(
        _is_group(name)
        or (folder.has_images and _plain(name) in _SPLITS)
        or (keys_group and _SHORT_KEY.fullmatch(name.lower()))
        for name, folder in inner
    )


def _is_group(name: str) -> bool:
    return _letters(name) in _GROUPS or _DATE.fullmatch(name) is not None


def _plain(name: str) -> str:
    """The word of a split, without what people write around it: "val" of "Val_2017 images"."""
    return _AFFIXES.sub("", _letters(name))


def _letters(name: str) -> str:
    """In lower case, without accents, digits and signs."""
    apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    letters = "".join(c for c in apart if unicodedata.category(c)[0] == "L")
    return unicodedata.normalize("NFC", letters)


_TRAINING = frozenset(map(_letters, _TRAINING_WORDS))
_SPLITS = frozenset(map(_letters, _SPLIT_WORDS))
_AFFIXES = re.compile(f"^(data|images?|imgs?)|({'|'.join(map(_letters, _AFTER_SPLITS))})+$")
