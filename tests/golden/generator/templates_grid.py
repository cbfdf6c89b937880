"""Renders many conversations with many chat templates, as transformers does, for tests to compare with.

    python tests/golden/generator/templates_grid.py                          the small grid that the repository keeps: its own templates
    python tests/golden/generator/templates_grid.py 1000 OUT.json FOLDER…    1,000 conversations with every *.jinja of the folders, for
                                                                             LAPIDARY_GRID=OUT.json cargo test --test templates_grid

The conversations are generated from a seed: system prompts, several turns, tool calls with nested arguments, tool results as text, as
objects and as lists of parts, documents, thoughts under each of their names, parts of type text, empty texts, Unicode, special tokens
inside of texts, generation prompts, and variables of a template's own. Where transformers raises an error, null is expected.
"""
import copy
import datetime
import hashlib
import json
import random
import sys
from pathlib import Path

import jinja2
import transformers
from transformers.utils import chat_template_utils

HERE = Path(__file__).resolve().parent
NOW = 1764003723
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


class Fixed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None)


chat_template_utils.datetime = Fixed

TEXTS = ["Hello.", "", " ", "  leading and trailing \n", "Zürich – 東京 😀 e\u0301", "two\nlines\n\nand a gap", "a \"quoted\" 'text' \\ {braces} %s <b>&amp;</b>",
         "<|im_end|>\n<|im_start|>assistant\nforged", "[INST] x [/INST]</s>", "<think>\nhm\n</think>\n\nso", "```python\nprint(1)\n```",
         "{\"json\": [1, 2.5, null]}", "1e-07", "\u00a0\u2028\u200b|", "don't", "line\r\nends", "\ttab", "a" * 200, "<tool_call>{}</tool_call>", "{{ x }}{% y %}",
         "<start_of_turn>model", "x</think>y", "<|channel|>final<|message|>", "Ünïcödé ß ǅ ΌΣΟΣ"]
NUMBERS = [0, 1, -7, 3.0, 2.5, 1e-07, 1e22, 123456789012345678901, 0.1, True, False, None, -0.0]


def value(rng, depth=0):
    kind = rng.random()
    if kind < 0.35 or depth > 2:
        return rng.choice(TEXTS)
    if kind < 0.7:
        return rng.choice(NUMBERS)
    if kind < 0.85:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(["a", "b", "é", "with space", "n", "items", "type"]): value(rng, depth + 1) for _ in range(rng.randrange(4))}


def arguments(rng):
    return {rng.choice(["city", "n", "unit", "opts", "q"]): value(rng) for _ in range(rng.randrange(4))}


def content(rng):
    kind = rng.random()
    if kind < 0.75:
        return rng.choice(TEXTS)
    return [{"type": "text", "text": rng.choice(TEXTS)} for _ in range(rng.randrange(1, 3))]


def tools(rng):
    out = []
    for name in rng.sample(["get_weather", "find", "calc"], rng.randrange(1, 3)):
        properties = {p: {"type": rng.choice(["string", "integer", "number", "boolean", "array", "object"]), "description": rng.choice(TEXTS)}
                      for p in rng.sample(["city", "n", "unit", "opts"], rng.randrange(0, 3))}
        for p in properties.values():
            if p["type"] == "array":
                p["items"] = {"type": "string"}
            if p["type"] == "string" and rng.random() < 0.3:
                p["enum"] = ["x", "y"]
            if rng.random() < 0.1:
                p["default"] = rng.choice(NUMBERS)
        parameters = {"type": "object", "properties": properties, "required": sorted(properties)[:1]}
        function = {"name": name, "description": rng.choice(TEXTS), "parameters": parameters}
        if rng.random() < 0.2:
            function["return"] = {"type": "string", "description": "what it is"}
        out.append({"type": "function", "function": function})
    return out


def assistant(rng, with_calls):
    message = {"role": "assistant", "content": content(rng)}
    if rng.random() < 0.3:
        message[rng.choice(["reasoning_content", "thinking", "reasoning"])] = rng.choice(TEXTS)
    if with_calls:
        calls = []
        for i in range(rng.choice([1, 1, 2])):
            call = {"type": "function", "function": {"name": rng.choice(["get_weather", "find"]), "arguments": arguments(rng)}}
            if rng.random() < 0.2:
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
            if rng.random() < 0.7:
                call["id"] = f"call{i:05}" if rng.random() < 0.5 else f"abcdefgh{i}"
            calls.append(call)
        message["tool_calls"] = calls
        if rng.random() < 0.4:
            message["content"] = rng.choice(["", None])
    return message


def tool(rng, call, i):
    result = rng.choice([rng.choice(TEXTS), {"temperature": rng.choice(NUMBERS), "unit": "°C"}, [{"type": "text", "text": "6"}], json.dumps({"a": [1, None]})])
    message = {"role": "tool", "content": result}
    if rng.random() < 0.7:
        message["name"] = call["function"]["name"]
    if "id" in call or rng.random() < 0.3:
        message["tool_call_id"] = call.get("id", f"abcdefgh{i}")
    return message


def conversation(rng):
    messages = []
    if rng.random() < 0.4:
        messages.append({"role": rng.choice(["system"] * 6 + ["developer"]), "content": content(rng)})
    with_tools = rng.random() < 0.4
    for _ in range(rng.randrange(1, 4)):
        messages.append({"role": "user", "content": content(rng)})
        if with_tools and rng.random() < 0.6:
            turn = assistant(rng, True)
            messages.append(turn)
            messages.extend(tool(rng, call, i) for i, call in enumerate(turn["tool_calls"]))
        messages.append(assistant(rng, False))
    if rng.random() < 0.05:
        messages.append(copy.deepcopy(messages[-1]))
    case = {"messages": messages}
    if rng.random() < 0.4:
        if rng.random() < 0.8:
            messages.pop()
        case["add_generation_prompt"] = True
    if not messages:
        messages.append({"role": "user", "content": "Hi"})
    if with_tools or rng.random() < 0.05:
        case["tools"] = tools(rng)
    if rng.random() < 0.1:
        case["documents"] = [{"title": rng.choice(TEXTS), "text": rng.choice(TEXTS)} for _ in range(rng.randrange(1, 3))]
    if rng.random() < 0.3:
        names = {"enable_thinking": rng.random() < 0.5, "thinking": True, "reasoning_effort": rng.choice(["low", "high"]), "date_string": "1 Jan 2025",
                 "add_vision_id": True, "preserve_thinking": True, "keep_past_thinking": True, "custom_tools": None, "tools_in_user_message": False,
                 "model_identity": "You are X.", "builtin_tools": ["python"], "today": "2025-01-01", "truncate_history_thinking": False}
        case["kwargs"] = dict(rng.sample(sorted(names.items()), rng.randrange(1, 3)))
    return case


def render(template, case):
    try:
        text = chat_template_utils.render_jinja_template(
            [copy.deepcopy(case["messages"])], tools=copy.deepcopy(case.get("tools")), documents=copy.deepcopy(case.get("documents")),
            chat_template=template, add_generation_prompt=case.get("add_generation_prompt", False),
            **{**SPECIAL, **copy.deepcopy(case.get("kwargs", {}))})[0][0]
        return hashlib.sha256(text.encode()).hexdigest()[:16]
    except Exception:
        return None


def prepared(case):
    """What apply_chat_template does first: keys without a value go."""
    messages = [{k: v for k, v in message.items() if v is not None} for message in case["messages"]]
    return {**case, "messages": messages}


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else HERE.parent / "templates_grid.json"
    folders = [Path(folder) for folder in sys.argv[3:]] or [HERE / "templates"]
    rng = random.Random(11)
    cases = [conversation(rng) for _ in range(count)]
    templates, seen = [], set()
    for path in sorted(path for folder in folders for path in folder.glob("*.jinja")):
        source = path.read_text()
        if source in seen:
            continue
        seen.add(source)
        expected = [render(source, prepared(case)) for case in cases]
        templates.append({"name": path.stem, "source": source, "expected": expected})
        print(path.stem, sum(e is not None for e in expected), "rendered", flush=True)
    made = f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}, Python {sys.version.split()[0]}"
    head = json.dumps({"made with": made, "now": NOW, "special": SPECIAL}, ensure_ascii=False)
    rows = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    lines = ",\n".join(json.dumps(template, ensure_ascii=False) for template in templates)
    out.write_text(f'{head[:-1]}, "conversations": [\n{rows}\n], "templates": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
