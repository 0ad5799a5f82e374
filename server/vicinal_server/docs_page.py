"""/docs: the API as one static page made from the OpenAPI document; no script, nothing fetched."""

from __future__ import annotations

import json
from html import escape
from typing import Any, Final

__all__ = ["render_docs"]

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "summary{cursor:pointer;padding:.4rem 0}code,pre{font:14px/1.4 ui-monospace,monospace}"
    "pre{background:#8881;padding:1rem;overflow:auto}b{display:inline-block;width:4.5rem}"
)


def render_docs(document: dict[str, Any]) -> str:
    """HTML with every route of an OpenAPI document: method, path, summary, and the schemas it uses."""
    info = document["info"]
    schemas = document.get("components", {}).get("schemas", {})
    routes = "".join(
        _route(method, path, operation, schemas)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    title = f"{escape(info['title'])} {escape(info['version'])}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1>"
        '<p>The same for machines: <a href="openapi.json">openapi.json</a>.</p>'
        f"{routes}</html>"
    )


def _route(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    parts = [f"<p>{escape(operation.get('description', ''))}</p>"]
    if "requestBody" in operation:
        parts.append(_schema("Request", operation["requestBody"], schemas))
    for status, response in operation.get("responses", {}).items():
        if status.startswith("2"):
            parts.append(_schema(f"Answer {status}", response, schemas))
    head = f"<b>{escape(method.upper())}</b><code>{escape(path)}</code> {escape(operation.get('summary', ''))}"
    return f"<details><summary>{head}</summary>{''.join(parts)}</details>"


def _schema(title: str, part: dict[str, Any], schemas: dict[str, Any]) -> str:
    content = part.get("content", {})
    if not content:
        return ""
    reference = next(iter(content.values())).get("schema", {})
    shown = schemas.get(reference.get("$ref", "").rpartition("/")[2], reference)
    text = escape(json.dumps(shown, indent=1))
    return f"<p>{escape(title)}: {escape(', '.join(content))}</p><pre>{text}</pre>"
