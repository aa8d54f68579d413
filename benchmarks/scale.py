"""Many users at once: the engine of this machine beside a server (vLLM) that runs on it too.

Each user asks a question of their own, with one system prompt for all, and reads an answer of a fixed length. The sides
run in turns, so that neither has the other beside it. Start the server first, with the flags of deploy/.

    python -m benchmarks.scale --base-url http://127.0.0.1:8000/v1 --served-as qwen --model coder-0.5b
"""

from __future__ import annotations

import asyncio
import time
from statistics import median, quantiles
from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage

from benchmarks.common import argument_parser, print_environment, print_result
from langchain_qwen import ChatQwen

SYSTEM = "You answer the visitors of a museum of mills. You are friendly and keep to the point. " * 4
TOPICS = ("wind mills", "water mills", "paper mills", "saw mills", "millstones", "flour", "bread", "sails")


def main() -> None:
    """Run both sides for each number of users and print tables and result."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--base-url", required=True, help="the server's API")
    parser.add_argument("--served-as", default="qwen", help="its name for the model")
    parser.add_argument("--users", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--tokens", type=int, default=32, help="of each answer")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print_environment()
    length: dict[str, Any] = {"max_tokens": options.tokens, "ignore_eos": True, "temperature": 0}
    here = ChatQwen(model=options.model, precision=options.precision, **length)
    there = ChatQwen(base_url=options.base_url, model=options.served_as, tokenizer=options.model, **length)
    rows = []
    with here, there:
        sides = {"here": here, "server": there}
        for model in sides.values():
            asyncio.run(ask_all(model, 1, "warm"))
        for users in options.users:
            measured: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
            for number in range(options.rounds):
                for side, model in sides.items():
                    measured[side].append(asyncio.run(ask_all(model, users, f"round {number}")))
            for side, runs in measured.items():
                rows.append({"users": users, "side": side, **{name: median(r[name] for r in runs) for name in runs[0]}})
                print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    print_result(
        {"benchmark": "scale", "rows": rows, "tokens": options.tokens, "model": options.model, **_forms(here, there)}
    )


async def ask_all(model: ChatQwen, users: int, salt: str) -> dict[str, float]:
    """All users at once: tokens a second of all together, and seconds to the first token."""
    begin = time.perf_counter()
    firsts = await asyncio.gather(*(_first_token(model, user, salt) for user in range(users)))
    seconds = time.perf_counter() - begin
    return {
        "tokens_per_second": round(users * (model.max_tokens or 0) / seconds, 1),
        "first_token_p50_s": round(median(firsts), 2),
        "first_token_p99_s": round(quantiles(firsts, n=100)[98] if users > 1 else firsts[0], 2),
    }


async def _first_token(model: ChatQwen, user: int, salt: str) -> float:
    question = f"Visitor {user}, {salt}: tell me about {TOPICS[user % len(TOPICS)]}."
    begin, first = time.perf_counter(), None
    async for _ in model.astream([SystemMessage(SYSTEM), HumanMessage(question)]):
        first = first or time.perf_counter() - begin
    assert first is not None
    return first


def _forms(here: ChatQwen, there: ChatQwen) -> dict[str, str]:
    return {"here": here.precision, "server": str(there.base_url)}


if __name__ == "__main__":
    main()
