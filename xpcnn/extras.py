"""The command that installs an extra, matching how xpcnn itself was installed."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def install_line(extra: str) -> str:
    """Return the command that installs an extra, such as ``pip install "xpcnn[onnx]"``.

    For a clone, it contains its directory; for an archive or a repository, its URL without user and password; where
    these are gone or nothing is installed, the packages of the extra. pipx and uv environments have their own commands.
    """
    try:
        installed = distribution("xpcnn")
    except PackageNotFoundError:
        return f"pip install {' '.join(map(_quoted, _declared(extra)))}"
    prefix = Path(sys.prefix)
    if (prefix / "pipx_metadata.json").exists():
        return f"pipx inject xpcnn {' '.join(map(_quoted, _required(installed, extra)))}"
    if (prefix / "uv-receipt.toml").exists():
        return f"uv tool install {_source(installed, extra) or _quoted(f'xpcnn[{extra}]')}"
    what = _source(installed, extra) or " ".join(map(_quoted, _required(installed, extra)))
    return f"{'uv ' if _made_by_uv(prefix) else ''}pip install {what}"


def _source(installed: Distribution, extra: str) -> str | None:
    """Return what to reinstall with the extra: the name on its index, a directory or a URL; None where that is gone."""
    named = f"xpcnn[{extra}]"
    origin: dict[str, Any] = json.loads(installed.read_text("direct_url.json") or "{}")
    url = urlsplit(origin.get("url", ""))
    if url.scheme == "file":
        from urllib.request import url2pathname  # a slow import

        folder = url2pathname(url.path)
        if not os.path.exists(folder):
            return None
        if "dir_info" in origin:
            return ("-e " if origin["dir_info"].get("editable") else "") + _quoted(f"{folder}[{extra}]")
    if not url.scheme:
        return _quoted(named)
    user, _, host = url.netloc.rpartition("@")
    host = f"git@{host}" if user == "git" else host  # a user that every such server has; others may be secret
    address = url._replace(netloc=host, query="", fragment="").geturl()
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        address = f"{vcs['vcs']}+{address}@{vcs.get('requested_revision') or vcs['commit_id']}"
    return _quoted(f"{named} @ {address}")


def _required(installed: Distribution, extra: str) -> list[str]:
    """Return the packages of an extra, with their versions, from the metadata of the installation."""
    wanted = re.compile(rf"""extra == ["']{extra}["']""")
    return [one.partition(";")[0].strip() for one in installed.requires or () if wanted.search(one)]


def _declared(extra: str) -> list[str]:
    """Return the packages of an extra, as declared in the source tree, or else the extra itself."""
    import tomllib

    try:
        project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    except OSError:
        return [f"xpcnn[{extra}]"]
    return list(project["optional-dependencies"][extra])


def _made_by_uv(prefix: Path) -> bool:
    """Whether uv created a virtual environment; uv does not put pip into it."""
    try:
        return "\nuv = " in "\n" + (prefix / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return False


def _quoted(text: str) -> str:
    """Return a word quoted for the shell, in double quotes, as Windows understands, unless it needs other quotes."""
    return shlex.quote(text) if os.name == "posix" and re.search(r'["$`\\]', text) else f'"{text}"'
