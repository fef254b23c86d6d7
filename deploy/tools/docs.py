"""A hook of MkDocs: pages link to files of the repository as they do on GitHub.

README.md, CONTRIBUTING.md and CHANGELOG.md become pages of the site. A link to another file outside docs/ leads to the
repository, and a link to nothing is an error.
"""

import os
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def on_config(config):
    """Lists the decisions in the menu in the order of their index, which must name all of them."""
    folder = Path(config.docs_dir) / "decisions"
    linked = re.findall(r"^\| \[.*?\]\((\S+?\.md)\)", (folder / "README.md").read_text(), re.MULTILINE)
    missing = {page.name for page in folder.glob("*.md")} - set(linked) - {"README.md"}
    if missing:
        raise PluginError(f"docs/decisions/README.md has no row for {', '.join(sorted(missing))}")
    config.nav.append({"Decisions": ["decisions/README.md"] + ["decisions/" + page for page in linked]})
    return config


def on_files(files, config):
    for path, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown, page, config, files):
    source = next((ROOT / path for path, uri in PAGES.items() if uri == page.file.src_uri), None)
    source = source or Path(page.file.abs_src_path)
    docs = Path(config.docs_dir)

    def lead(match):
        path, anchor = match[1], match[2] or ""
        target = Path(os.path.normpath(source.parent / path))
        if not target.exists() or ROOT not in target.parents:
            raise PluginError(f"{source.relative_to(ROOT)} links to {path}, which is not there")
        inside = target.relative_to(ROOT).as_posix()
        if target.is_relative_to(docs):
            uri = target.relative_to(docs).as_posix()
        elif inside in PAGES:
            uri = PAGES[inside]
        else:
            kind = "tree" if target.is_dir() else "blob"
            return f"{config.repo_url}/{kind}/main/{inside}{anchor}"
        return os.path.relpath(uri, os.path.dirname(page.file.src_uri) or ".") + anchor

    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(lead, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join(parts) + LINK.sub(lead, markdown[end:])
