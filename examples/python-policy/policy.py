"""Greets the upstream in words that the operator chooses, and turns away whoever says to be nobody."""

import json
from dataclasses import replace

import wit_world
from componentize_py_types import Err
from wit_world.imports.types import (
    Action_Deny, Action_Next, BodyMode_None_, Change_Set, CustomDenial, Denial_Custom, Descriptor, Diagnostic, Edit,
    Facts, Plan, Powers, Request, Slot, Verdict,
)

# Positions: in `reads` below, and in `request_writes`.
X_NAME = 0
X_GREETING = 0

ABOUT = Descriptor(
    name="python-hello",
    version="1.0.0",
    summary="Greets the upstream.",
    facts=Facts.PATH | Facts.PRINCIPAL,
    powers=Powers.DENY,
    reads=["x-name"],
    response_reads=[],
    request_writes=["x-greeting"],
    response_writes=[],
    request_body=BodyMode_None_(),
    response_body=BodyMode_None_(),
    counters=[],
    config_schema=json.dumps({
        "type": "object",
        "properties": {"greeting": {"type": "string"}},
        "required": ["greeting"],
        "additionalProperties": False,
    }),
)

NEXT = Verdict(
    action=Action_Next(), path=None, request_edits=[], response_edits=[], takes=[], charges=[], identity=None, token=None,
    notes=[], carry=b"",
)

NOBODY = Action_Deny(Denial_Custom(CustomDenial(403, "nobody_is_not_welcome", "Say who you are in x-name.")))

greetings: dict[int, str] = {}


class WitWorld(wit_world.WitWorld):
    def describe(self) -> Descriptor:
        return ABOUT

    def configure(self, number: int, slot: Slot, config: str) -> Plan:
        greeting = json.loads(config)["greeting"]
        if not greeting.strip():
            raise Err([Diagnostic("/greeting", "A greeting needs words; write for example `good morning`.")])
        greetings[number] = greeting
        return Plan(scopes=[], limits=[], targets=[], maximum_charge=0)

    def on_request(self, request: Request) -> Verdict:
        name = next((field.value.decode(errors="replace") for field in request.fields if field.field == X_NAME), None)
        if name == "nobody":
            return replace(NEXT, action=NOBODY)
        name = name or (request.principal.org if request.principal else "stranger")
        words = f"{greetings[request.slot]}, {name}, at {request.path}"
        return replace(NEXT, request_edits=[Edit(X_GREETING, Change_Set(words.encode()))])
