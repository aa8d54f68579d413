"""Tasks for agents: twelve tools with fixed answers, and questions scored by code.

All names, places and figures of the tools are made up, so that no model knows an answer without calling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.tools import BaseTool, ToolException, tool
from pydantic import BaseModel

Kind = Literal["one", "in_turn", "at_once", "none", "fails", "memory", "structured"]

_WEATHER = {
    "oslo": "4 degrees, rain",
    "lisbon": "23 degrees, sunny",
    "cairo": "31 degrees, windy",
    "quito": "17 degrees, fog",
}
_PRICES = {"ACME": 12.5, "GLOBEX": 348.2, "INITECH": 77.0}
_RATES = {("EUR", "USD"): 1.1, ("USD", "EUR"): 0.9, ("EUR", "JPY"): 160.0}
_TIMES = {"tokyo": "21:40", "lima": "07:40", "berlin": "13:40"}
_CONTACTS = {
    "ada": ("ada@example.org", "Porto"),
    "bram": ("bram@example.org", "Oslo"),
    "chen": ("chen@example.org", "Quito"),
}
_EVENTS = {"monday": ["dentist at 09:00", "choir at 19:30"], "tuesday": [], "friday": ["board meeting at 14:00"]}
_ORDERS = {"A-17": ("shipped", "2 December"), "B-42": ("delayed", "9 January"), "C-08": ("delivered", "20 November")}
_WORDS = {("bridge", "basque"): "zubia", ("bread", "finnish"): "leipä", ("river", "welsh"): "afon"}
_FLIGHTS = {("porto", "oslo"): "TX 310 at 11:05 for 142 euros", ("lima", "quito"): "TX 88 at 06:20 for 97 euros"}
_STOCK = {"lamp": 14, "chair": 0, "desk": 3}


@tool
def get_weather(city: str) -> str:
    """The weather in a city right now."""
    return _WEATHER.get(city.split(",")[0].strip().lower(), f"no station in {city}")


@tool
def get_stock_price(symbol: str) -> str:
    """The price of a share in US dollars, by its ticker symbol."""
    if symbol.upper() not in _PRICES:
        raise ToolException(f"unknown symbol {symbol}; known are {', '.join(_PRICES)}")
    return f"{_PRICES[symbol.upper()]} USD"


@tool
def convert_currency(amount: float, source: str, target: str) -> str:
    """Convert an amount of money from one currency (code such as EUR) to another."""
    rate = _RATES.get((source.upper(), target.upper()))
    if rate is None:
        raise ToolException(f"no rate from {source} to {target}")
    return f"{amount * rate:.2f} {target.upper()}"


@tool
def get_time(city: str) -> str:
    """The local time in a city."""
    return _TIMES.get(city.split(",")[0].strip().lower(), f"no clock for {city}")


@tool
def find_contact(name: str) -> str:
    """Look up a person in the address book: e-mail address and home town."""
    found = _CONTACTS.get(name.split()[0].lower())
    return f"e-mail {found[0]}, lives in {found[1]}" if found else f"no contact named {name}"


@tool
def send_message(recipient: str, text: str) -> str:  # noqa: ARG001
    """Send a message to an e-mail address."""
    if "@" not in recipient:
        raise ToolException(f"{recipient} is no e-mail address; look the person up first")
    return f"sent to {recipient}"


@tool
def list_events(day: str) -> str:
    """The appointments in the calendar on a day of the week."""
    events = _EVENTS.get(day.lower())
    if events is None:
        return f"nothing is known about {day}"
    return "; ".join(events) or "no appointments"


@tool
def get_order(order_id: str) -> str:
    """State and date of an order, by its number."""
    found = _ORDERS.get(order_id.upper())
    if found is None:
        raise ToolException(f"there is no order {order_id}")
    return f"order {order_id.upper()}: {found[0]}, {found[1]}"


@tool
def translate_word(word: str, language: str) -> str:
    """Translate one English word into a language."""
    return _WORDS.get((word.lower(), language.lower()), f"no entry for {word} in {language}")


@tool
def search_flights(origin: str, destination: str) -> str:
    """The cheapest flight between two cities tomorrow."""
    return _FLIGHTS.get((origin.lower(), destination.lower()), f"no flights from {origin} to {destination}")


@tool
def check_stock(item: str) -> str:
    """How many pieces of an item the warehouse holds."""
    count = _STOCK.get(item.lower().removesuffix("s"))
    return f"{count} pieces of {item}" if count is not None else f"no item {item}"


@tool
def set_reminder(text: str, time: str) -> str:  # noqa: ARG001
    """Set a reminder for today."""
    return f"reminder set for {time}"


TOOLS: list[BaseTool] = [
    get_weather,
    get_stock_price,
    convert_currency,
    get_time,
    find_contact,
    send_message,
    list_events,
    get_order,
    translate_word,
    search_flights,
    check_stock,
    set_reminder,
]
for _tool in TOOLS:
    _tool.handle_tool_error = True
BY_NAME = {one.name: one for one in TOOLS}


class Weather(BaseModel):
    """The weather in a city."""

    city: str
    degrees: int


class Price(BaseModel):
    """The price of a share."""

    symbol: str
    dollars: float


class Order(BaseModel):
    """An order."""

    order_id: str
    state: Literal["shipped", "delayed", "delivered"]


class Contact(BaseModel):
    """A person."""

    name: str
    email: str
    town: str


@dataclass(frozen=True)
class Task:
    """One question.

    Attributes:
        kind: What it tries.
        question: What the user says, or what has been said so far, as (role, text), the question last.
        tools: The tools that are bound.
        calls: The tools that have to be called, each as often as it stands here; more is needless.
        says: Each of these must be in the answer, in one of its spellings.
        never: None of these may be in it.
        schema: The form of the answer; `says` is then looked for in its JSON.
    """

    kind: Kind
    question: str | tuple[tuple[str, str], ...]
    tools: tuple[str, ...]
    calls: tuple[str, ...] = ()
    says: tuple[tuple[str, ...], ...] = ()
    never: tuple[str, ...] = ()
    schema: type[BaseModel] | None = None


_HOME = ("get_weather", "get_time", "list_events")
_MONEY = ("get_stock_price", "convert_currency", "get_order")
_PEOPLE = ("find_contact", "send_message", "set_reminder")
_SHOP = ("get_order", "check_stock", "send_message")
_TRAVEL = ("search_flights", "get_weather", "get_time")


def _one(question: str, tools: Sequence[str], call: str, *says: tuple[str, ...]) -> Task:
    return Task("one", question, tuple(tools), (call,), says)


def _many(kind: Kind, question: str, tools: Sequence[str], calls: Sequence[str], *says: tuple[str, ...]) -> Task:
    return Task(kind, question, tuple(tools), tuple(calls), says)


def _none(question: str, tools: Sequence[str], *says: tuple[str, ...]) -> Task:
    return Task("none", question, tuple(tools), (), says)


def _form(schema: type[BaseModel], question: str, tools: Sequence[str], calls: Sequence[str], **fields: Any) -> Task:
    says = tuple((f'"{name}":{_json(value)}',) for name, value in fields.items())
    return Task("structured", question, tuple(tools), tuple(calls), says, schema=schema)


def _json(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


TASKS: list[Task] = [
    _one("What is the weather like in Oslo?", _HOME, "get_weather", ("4",), ("rain",)),
    _one("Is it sunny in Lisbon right now?", _HOME, "get_weather", ("sunny", "yes")),
    _one("How hot is it in Cairo?", _TRAVEL, "get_weather", ("31",)),
    _one("What time is it in Lima?", _HOME, "get_time", ("07:40", "7:40")),
    _one("Tell me the local time in Tokyo.", _TRAVEL, "get_time", ("21:40", "9:40")),
    _one("What do I have on Friday?", _HOME, "list_events", ("board", "meeting"), ("14:00", "2:00", "2 pm", "2 PM")),
    _one(
        "Am I free on Tuesday?",
        _HOME,
        "list_events",
        ("no appointment", "free", "no event", "Yes", "yes", "not have any"),
    ),
    _one("What does one share of GLOBEX cost?", _MONEY, "get_stock_price", ("348.2",)),
    _one("How many yen are 20 euros?", _MONEY, "convert_currency", ("3200", "3,200")),
    _one("Where is my order B-42?", _SHOP, "get_order", ("delay",), ("9 January", "January 9")),
    _one("Do you have desks in the warehouse?", _SHOP, "check_stock", ("3", "three")),
    _one("What is the e-mail address of Bram?", _PEOPLE, "find_contact", ("bram@example.org",)),
    _one("Remind me at 18:00 to water the plants.", _PEOPLE, "set_reminder", ("18:00", "6:00", "6 PM", "6 pm")),
    _one(
        "How do you say bridge in Basque?", ("translate_word", "get_time", "get_weather"), "translate_word", ("zubia",)
    ),
    _one("Find me a flight from Lima to Quito.", _TRAVEL, "search_flights", ("TX 88", "TX88"), ("97",)),
    _one("Wie ist das Wetter in Quito?", _HOME, "get_weather", ("17",), ("Nebel", "nebl", "fog", "Fog")),
    _many(
        "in_turn",
        "In which town does Ada live, and find me a flight from there to Oslo.",
        ("find_contact", "search_flights", "get_time"),
        ("find_contact", "search_flights"),
        ("Porto",),
        ("142",),
    ),
    _many(
        "in_turn",
        "What is the weather where Bram lives?",
        ("find_contact", "get_weather", "send_message"),
        ("find_contact", "get_weather"),
        ("4", "rain"),
    ),
    _many(
        "in_turn",
        "How is the weather in the town where Chen lives?",
        ("find_contact", "get_weather", "get_time"),
        ("find_contact", "get_weather"),
        ("17", "fog"),
    ),
    _many("in_turn", "Write to Ada that I will be late.", _PEOPLE, ("find_contact", "send_message"), ("sent", "Ada")),
    _many(
        "in_turn",
        "Look up Chen's address and send him the message 'Happy birthday'.",
        _PEOPLE,
        ("find_contact", "send_message"),
        ("sent", "Chen"),
    ),
    _many("in_turn", "What does ACME cost in euros?", _MONEY, ("get_stock_price", "convert_currency"), ("11.25",)),
    _many(
        "in_turn",
        "Get the price of INITECH and tell me what 1 share is in euros.",
        _MONEY,
        ("get_stock_price", "convert_currency"),
        ("69.3",),
    ),
    _many(
        "in_turn",
        "Check my calendar for Monday, then remind me of the dentist at that time.",
        ("list_events", "set_reminder", "get_time"),
        ("list_events", "set_reminder"),
        ("09:00", "9:00", "dentist"),
    ),
    _many(
        "at_once", "What is the weather in Oslo and in Cairo?", _HOME, ("get_weather", "get_weather"), ("4",), ("31",)
    ),
    _many(
        "at_once",
        "Compare the temperatures of Lisbon and Quito.",
        _TRAVEL,
        ("get_weather", "get_weather"),
        ("23",),
        ("17",),
    ),
    _many(
        "at_once",
        "Tell me the time in Tokyo and in Berlin.",
        _HOME,
        ("get_time", "get_time"),
        ("21:40", "9:40"),
        ("13:40", "1:40"),
    ),
    _many(
        "at_once", "What do ACME and INITECH cost?", _MONEY, ("get_stock_price", "get_stock_price"), ("12.5",), ("77",)
    ),
    _many(
        "at_once",
        "Are there lamps and chairs in stock?",
        _SHOP,
        ("check_stock", "check_stock"),
        ("14",),
        ("0", "no chair", "out of stock", "not in stock"),
    ),
    _many(
        "at_once", "Where are my orders A-17 and C-08?", _SHOP, ("get_order", "get_order"), ("shipped",), ("delivered",)
    ),
    _many(
        "at_once",
        "What time is it in Lima and what is the weather in Cairo?",
        _TRAVEL,
        ("get_time", "get_weather"),
        ("07:40", "7:40"),
        ("31", "windy"),
    ),
    _many(
        "at_once",
        "Give me the e-mail addresses of Ada and Chen.",
        _PEOPLE,
        ("find_contact", "find_contact"),
        ("ada@example.org",),
        ("chen@example.org",),
    ),
    _none("Hello, who are you?", _HOME),
    _none("Thank you, that was all.", _MONEY),
    _none("What is the capital of France?", _HOME, ("Paris",)),
    _none("Write one sentence about the sea.", _SHOP, ("sea", "ocean", "wave")),
    _none("What is 7 times 8?", _PEOPLE, ("56",)),
    _none("Which tools do you have?", _MONEY),
    _none("Explain in one sentence what a share is.", _MONEY, ("compan", "owner")),
    _none("Say good morning in Spanish.", _TRAVEL, ("Buenos", "buenos")),
    _none("Is a whale a fish? Answer briefly, without looking anything up.", _HOME, ("mammal", "No", "no")),
    _none("Rephrase politely: 'Send me the report.'", _PEOPLE, ("report",)),
    Task(
        "fails",
        "What does HOOLI cost?",
        _MONEY,
        ("get_stock_price",),
        (("unknown", "not", "no ", "cannot", "couldn't", "unable"),),
    ),
    Task("fails", "Where is my order Z-99?", _SHOP, ("get_order",), (("no order", "not", "unable", "couldn't"),)),
    Task(
        "fails",
        "What is the weather in Atlantis?",
        _HOME,
        ("get_weather",),
        (("no station", "not", "no ", "unable", "couldn't"),),
        ("degrees",),
    ),
    Task(
        "fails",
        "Convert 10 dollars to Swiss francs (CHF).",
        _MONEY,
        ("convert_currency",),
        (("no rate", "not", "unable", "couldn't"),),
    ),
    Task(
        "fails",
        "What is Zoe's e-mail address?",
        _PEOPLE,
        ("find_contact",),
        (("no contact", "not", "unable", "couldn't", "no "),),
        ("@example",),
    ),
    Task(
        "fails",
        "Find a flight from Oslo to Cairo.",
        _TRAVEL,
        ("search_flights",),
        (("no flight", "not", "unable", "couldn't"),),
    ),
    Task(
        "memory",
        (
            ("human", "My name is Ines and I live in Braga."),
            ("ai", "Nice to meet you, Ines!"),
            ("human", "What is my name?"),
        ),
        _HOME,
        (),
        (("Ines",),),
    ),
    Task(
        "memory",
        (("human", "I have two dogs, Rex and Uma."), ("ai", "How lovely!"), ("human", "How many dogs do I have?")),
        _SHOP,
        (),
        (("two", "2"),),
    ),
    Task(
        "memory",
        (
            ("human", "My favourite city is Quito."),
            ("ai", "A fine choice."),
            ("human", "What is the weather in my favourite city?"),
        ),
        _HOME,
        ("get_weather",),
        (("17", "fog"),),
    ),
    Task(
        "memory",
        (("human", "My order number is A-17."), ("ai", "Thank you, noted."), ("human", "When will it arrive?")),
        _SHOP,
        ("get_order",),
        (("2 December", "December 2"),),
    ),
    Task(
        "memory",
        (("human", "I own shares of ACME."), ("ai", "Good to know."), ("human", "What is the price of one now?")),
        _MONEY,
        ("get_stock_price",),
        (("12.5",),),
    ),
    Task(
        "memory",
        (("human", "Let us speak of Ada."), ("ai", "Of course."), ("human", "What is her e-mail address?")),
        _PEOPLE,
        ("find_contact",),
        (("ada@example.org",),),
    ),
    _form(Weather, "What is the weather in Lisbon?", _HOME, ("get_weather",), degrees=23),
    _form(Weather, "How warm is it in Cairo?", _TRAVEL, ("get_weather",), degrees=31),
    _form(Price, "What does one share of ACME cost?", _MONEY, ("get_stock_price",), dollars=12.5),
    _form(Price, "The price of GLOBEX, please.", _MONEY, ("get_stock_price",), dollars=348.2),
    _form(Order, "What is the state of order B-42?", _SHOP, ("get_order",), state="delayed"),
    _form(Order, "Has order C-08 arrived?", _SHOP, ("get_order",), state="delivered"),
    _form(
        Contact,
        "Who is Chen and how do I reach him?",
        _PEOPLE,
        ("find_contact",),
        email="chen@example.org",
        town="Quito",
    ),
    _form(
        Contact, "Give me all there is about Ada.", _PEOPLE, ("find_contact",), email="ada@example.org", town="Porto"
    ),
]
