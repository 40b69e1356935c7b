"""OpenAPI v2, made from the documents of v3."""

from __future__ import annotations

import msgspec

from emu.api.openapi.parameters import Document

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")


def converted(document: Document) -> Document:
    """A document of v3 in the form of v2. Schemas may still be encoded."""
    return {
        "swagger": "2.0",
        "info": document["info"],
        "paths": {path: _path_item(item) for path, item in document["paths"].items()},
        "definitions": {
            name: _schema(msgspec.json.decode(bytes(schema)))
            for name, schema in document["components"]["schemas"].items()
        },
    }


def _path_item(item: Document) -> Document:
    converted: Document = {method: _operation(item[method]) for method in _METHODS if method in item}
    return {**converted, "parameters": [_parameter(parameter) for parameter in item["parameters"]]}


def _operation(operation: Document) -> Document:
    parameters = [_parameter(parameter) for parameter in operation["parameters"]]
    result = {
        key: value
        for key, value in operation.items()
        if key not in ("requestBody", "responses", "parameters")
    }
    body = operation.get("requestBody")
    if body is not None:
        content = body["content"]
        schema = _schema(next(iter(content.values()))["schema"])
        result["consumes"] = list(content)
        given: Document = {"name": "body", "in": "body", "schema": schema}
        parameters.insert(0, {**given, "required": True} if body.get("required") else given)
    produced: dict[str, None] = {}
    responses: Document = {}
    for code, response in operation["responses"].items():
        responses[code] = {"description": response["description"]}
        for kind, media in response.get("content", {}).items():
            produced[kind] = None
            responses[code]["schema"] = _schema(media["schema"])
    return {**result, "produces": list(produced), "parameters": parameters, "responses": responses}


def _parameter(parameter: Document) -> Document:
    flat = {key: value for key, value in parameter.items() if key != "schema"}
    return {**flat, **parameter["schema"]}


def _schema(node: Document) -> Document:
    """References take their description along here, and a value has one type."""
    result: Document = {}
    for key, value in node.items():
        if key == "$ref":
            result[key] = value.replace("#/components/schemas/", "#/definitions/")
        elif key == "allOf":
            result |= _schema(value[0])
        elif key == "oneOf":
            result["type"] = "string"
        elif key == "properties":
            result[key] = {name: _schema(below) for name, below in value.items()}
        elif key in ("items", "additionalProperties"):
            result[key] = _schema(value)
        else:
            result[key] = value
    return result
