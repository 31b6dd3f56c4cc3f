"""Files of a repository on the Hugging Face hub, which ``huggingface_hub`` fetches into its cache, once."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from xpcnn.extras import install_line

#: The names of weights in a repository or a folder, the better first, and of what describes them.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
DESCRIPTION = "config.json"
_SOURCE = re.compile(r"hf:([a-z0-9][\w.-]*/[\w.-]+)(?:@([\w./-]+))?", re.ASCII | re.IGNORECASE)
#: How other libraries, and people, write the same.
_ALIKE = re.compile(r"(?:hf|hf[-_]hub|huggingface|hub):/*(.*)", re.ASCII | re.IGNORECASE)


def is_meant(source: str) -> bool:
    """Whether a source of weights is on the hub, in the right spelling or not.

    >>> is_meant("hf:timm/resnet18.a1_in1k"), is_meant("hf_hub:timm/resnet18"), is_meant("runs/train")
    (True, True, False)
    """
    return _ALIKE.fullmatch(source) is not None


@functools.cache  # so that a process takes one revision
def fetch(source: str) -> Path:
    """Return the weights of ``hf:owner/name`` or ``hf:owner/name@revision``, with their description beside them.

    They are in ``huggingface_hub``'s cache, in a folder named by the commit. Raises ValueError for another spelling or
    without that library, FileNotFoundError for what is neither on the hub nor in the cache, and OSError if fetching
    fails.
    """
    match = _SOURCE.fullmatch(source)
    if match is None or not source.startswith("hf:") or ".." in source:
        raise ValueError(f"{source!r} is not hf:owner/name or hf:owner/name@revision.{_meant_by(source)}")
    repository, revision = match.groups()
    described = _download(source, repository, revision, DESCRIPTION)
    if described is not None:
        revision = described.parent.name
    missing: FileNotFoundError | None = None
    for name in WEIGHTS:
        try:
            found = _download(source, repository, revision, name)
        except FileNotFoundError as error:  # the other may be in the cache
            missing = missing or error
        else:
            if found is not None:
                return found
    raise missing or FileNotFoundError(f"{source!r} has no {' or '.join(WEIGHTS)}. Use a repository with one of them.")


def _download(source: str, repository: str, revision: str | None, name: str) -> Path | None:
    """Return a file of a repository, None if the repository does not have it."""
    try:
        from huggingface_hub import _CACHED_NO_EXIST, errors, hf_hub_download, try_to_load_from_cache
    except ImportError as error:
        raise ValueError(f"{source!r} needs huggingface_hub ({error}). Run `{install_line('hub')}`.") from error
    try:
        return Path(hf_hub_download(repository, name, revision=revision))
    except errors.LocalEntryNotFoundError as error:
        if try_to_load_from_cache(repository, name, revision=revision) is _CACHED_NO_EXIST:
            return None
        raise FileNotFoundError(
            f"{name} of {source!r} is not in the cache, and the hub cannot be reached, or HF_HUB_OFFLINE is set. "
            "Connect to the network once, or give a file."
        ) from error
    except errors.EntryNotFoundError:
        return None
    except errors.GatedRepoError as error:
        raise PermissionError(
            f"{source!r} is only for those who have accepted its terms. Accept them on its page, then log in: "
            "hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(f"{source!r} has no such revision.") from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"The hub has no repository {repository!r} that you may read. Check its name; for a private one, log in: "
            "hf auth login"
        ) from error
    except Exception as error:  # of the library's transport, which has types of its own
        reason = next(iter(str(error).splitlines()), "")
        raise OSError(f"{name} of {source!r} cannot be fetched ({type(error).__name__}: {reason}).") from error


def _meant_by(source: str) -> str:
    """Return a sentence with the right spelling, if it can be guessed, or else an example."""
    match = _ALIKE.fullmatch(source)
    rest = match[1] if match else ""
    guess = f"hf:{rest if '/' in rest else f'timm/{rest}'}"
    return f" Did you mean {guess}?" if _SOURCE.fullmatch(guess) else " An example: hf:timm/resnet18.a1_in1k."
