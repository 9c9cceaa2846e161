"""The JSON schema of the configuration, for editors: `python -m monitor.schema_json` writes it to standard output."""

from __future__ import annotations

import copy
import json
import sys

from monitor.config.types import ConfigFile


def config_schema() -> str:
    """The text of `driftline.schema.json`: what ConfigFile says, and that `x-*` keys are free everywhere."""
    schema = ConfigFile.model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Driftline configuration"}
    definitions = schema["$defs"]
    for name, parts in (("Model", ("reference",)), ("ReferenceConfig", ())):
        # `defaults` may hold a part of a model only, so nothing is required there
        partial = definitions[f"{name}Defaults"] = copy.deepcopy(definitions[name])
        partial.pop("required", None)
        for part in parts:
            partial["properties"][part] = {"$ref": "#/$defs/ReferenceConfigDefaults"}
    schema["properties"]["defaults"] = {"$ref": "#/$defs/ModelDefaults"}
    _free_extension_keys(schema)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _free_extension_keys(node: object) -> None:
    if isinstance(node, list):
        for child in node:
            _free_extension_keys(child)
    elif isinstance(node, dict):
        if node.get("additionalProperties") is False and "properties" in node:
            node["patternProperties"] = {"^x-": {}}
        for child in node.values():
            _free_extension_keys(child)


if __name__ == "__main__":
    sys.stdout.write(config_schema())
