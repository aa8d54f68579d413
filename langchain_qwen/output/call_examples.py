"""The examples of the two questions that decide which calls are made (`langchain_qwen.output.deciding`).

Each holds tools, the lines of a conversation and the answer. What two of them differ in is what a small model takes
from them: the same tools with and without a need for them, with and without a step before, or after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NONE = "none"
THEN = "then "


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked behind examples.

    Attributes:
        system: What it is about.
        examples: Tools, lines of a conversation, and the answer.
        last: The last line of each.
    """

    system: str
    examples: Sequence[tuple[Sequence[str], Sequence[str], str]]
    last: str


_OUTLINE = (
    "You plan how an assistant that has tools answers the user's last message. Write all the calls that it needs, "
    "one on each line, in their order, with values that the conversation holds; 'then' before a call that waits for "
    "an earlier result. Write only what the user asks for. Write 'none' if no tool is needed: for small talk, for "
    "what the assistant can say or write by itself, and for what none of the tools can do."
)
_NEXT = (
    "You plan the next step of an assistant that has tools. Write the calls that have to be made next for the user's "
    "last message, one on each line, with values that the conversation holds; a call that needs the result of another "
    "one comes later. Write 'none' if no tool is needed: for small talk, for what the assistant can say or write by "
    "itself, for what none of the tools can do, and when the results so far are enough."
)
_WEATHER, _MAIL, _WEB = (
    "get_weather: The weather in a city.",
    "send_mail: Send an e-mail.",
    "web_search: Search the web.",
)
_SHARES = ("stock_price: Price of a share.", "exchange_rate: Rate between two currencies.")
_PHONE = ("find_person: Phone number and office of a person.", "call_phone: Call a phone number.")
_ORDERS = ("order_status: State of an order.", "cancel_order: Cancel an order.")
_ROOMS = ("room_list: Free rooms on a day.", "reserve_room: Reserve a room.")
_WORDS = ("define: Definition of a word.", "read_page: Text of a web page.")
_TIMES = ("get_time: The time in a city.", _WEATHER)
_HOME = ("find_person: Home town of a person.", _WEATHER, _MAIL)
_PRICES = ("stock_price(company=Siemens) -> 181.2", "stock_price(company=Bosch) -> 95.0")
_TOM = "find_person(name=Tom) -> lives in Berlin"
_HOTELS = ("find_hotels: Hotels in a city.", "book_hotel: Book rooms in a hotel.", _MAIL)
_AZUR = "book_hotel(hotel=Azur, people=2)"
_MARTA = "find_person(name=Marta) -> 555-0117, office 12"
_STOCK = ("count_stock: Pieces of an article in stock.", "order_article: Order an article.")
_FIRST_EXAMPLES = [
    ((_WEATHER, _MAIL, _WEB), ("User: What's the weather in Rome?",), "get_weather(city=Rome)"),
    ((_WEATHER, _MAIL, _WEB), ("User: Good morning!",), NONE),
    (
        _SHARES,
        ("User: Compare the shares of Siemens and Bosch.",),
        "stock_price(company=Siemens)\nstock_price(company=Bosch)",
    ),
    (_SHARES, ("User: Why do companies issue shares?",), NONE),
]
_TWO_CITIES = (
    (*_TIMES, "translate: Translate a text."),
    ("User: What time is it in Tokyo, and is it raining in Paris?",),
    "get_time(city=Tokyo)\nget_weather(city=Paris)",
)
_NEXT_EXAMPLES = [
    *_FIRST_EXAMPLES,
    (_PHONE, ("User: Please call Marta.",), "find_person(name=Marta)"),
    (_PHONE, ("User: Please call Marta.", _MARTA), "call_phone(number=555-0117)"),
    (_PHONE, ("User: Please call Marta.", _MARTA, "call_phone(number=555-0117) -> answered"), NONE),
    _TWO_CITIES,
    (_TIMES, ("User: Order a pizza for me.",), NONE),
    (_ORDERS, ("User: Where is order 55?", "order_status(id=55) -> Error: unknown order"), NONE),
    (_ORDERS, ("User: My name is Paul.", "Assistant: Hello Paul!", "User: What is my name?"), NONE),
    (
        _STOCK,
        ("User: Order a lamp if fewer than five are left.", "count_stock(article=lamp) -> 3 pieces"),
        "order_article(article=lamp)",
    ),
    (_WORDS, ("User: Write a limerick about a cat.",), NONE),
    (_WORDS, ("User: What is the second largest ocean?",), NONE),
    (_ROOMS, ("User: Reserve room 4 on Friday.",), "reserve_room(room=4, day=Friday)"),
    (_ROOMS, ("User: Which rooms are free on Monday?", "room_list(day=Monday) -> 2, 7 and 9"), NONE),
    ((_WEATHER, _MAIL, _WEB), ("User: Is it snowing in Bergen?", "get_weather(city=Bergen) -> 3 degrees, snow"), NONE),
    (_SHARES, ("User: Compare the shares of Siemens and Bosch.", *_PRICES), NONE),
    (_HOME, ("User: What is the weather where Tom lives?",), "find_person(name=Tom)"),
    (_HOME, ("User: What is the weather where Tom lives?", _TOM), "get_weather(city=Berlin)"),
    (_HOME, ("User: What is the weather where Tom lives?", _TOM, "get_weather(city=Berlin) -> 12 degrees"), NONE),
    ((*_TIMES, _MAIL), ("User: How late is it in Rio?", "get_time(city=Rio) -> 14:05"), NONE),
    (
        _ROOMS,
        ("User: Which rooms are free on Monday and on Thursday?",),
        "room_list(day=Monday)\nroom_list(day=Thursday)",
    ),
    (_HOTELS, ("User: Find a hotel in Nice and book it for two.",), "find_hotels(city=Nice)"),
    (_HOTELS, ("User: Find a hotel in Nice and book it for two.", "find_hotels(city=Nice) -> Azur"), _AZUR),
]

_ENERGY = ("energy(mass, speed, unit): Kinetic energy of a moving body.",)
_SALES = ("sales(product, country, first, last): Sales of a product from a first to a last year.",)
_OUTLINE_EXAMPLES = [
    *_FIRST_EXAMPLES,
    (
        _ENERGY,
        ("User: A cart of 4 kg moves at 3 m/s, another one of 6 kg at 2 m/s. What energies have they, in joules?",),
        "energy(mass=4, speed=3, unit=J)\nenergy(mass=6, speed=2, unit=J)",
    ),
    (_ENERGY, ("User: How much energy does a house need in a year?",), NONE),
    (_PHONE, ("User: Please call Marta.",), "find_person(name=Marta)\nthen call_phone(number=?)"),
    (_PHONE, ("User: Call 555-0117.",), "call_phone(number=555-0117)"),
    (_PHONE, ("User: In which office is Marta?",), "find_person(name=Marta)"),
    _TWO_CITIES,
    (_TIMES, ("User: Order a pizza for me.",), NONE),
    (_TIMES, ("User: How warm is it in Madrid?",), "get_weather(city=Madrid)"),
    (_TIMES[:1], ("User: Is it snowing in Bergen?",), NONE),
    (_ORDERS, ("User: Where is order 55?",), "order_status(id=55)"),
    (_ORDERS, ("User: Cancel orders 55 and 56.",), "cancel_order(id=55)\ncancel_order(id=56)"),
    (_ORDERS, ("User: My name is Paul.", "Assistant: Hello Paul!", "User: What is my name?"), NONE),
    (
        _STOCK,
        ("User: Order a lamp if fewer than five are left.",),
        "count_stock(article=lamp)\nthen order_article(article=lamp)",
    ),
    (_STOCK, ("User: Are there enough chairs?",), "count_stock(article=chair)"),
    (_WORDS, ("User: Write a limerick about a cat.",), NONE),
    (_WORDS, ("User: What is the second largest ocean?",), NONE),
    (_ROOMS, ("User: Reserve room 4 on Friday.",), "reserve_room(room=4, day=Friday)"),
    (_ROOMS, ("User: Which rooms are free on Monday?",), "room_list(day=Monday)"),
    (_HOME, ("User: What is the weather where Tom lives?",), "find_person(name=Tom)\nthen get_weather(city=?)"),
    (_HOME, ("User: Where does Tom live?",), "find_person(name=Tom)"),
    (
        (*_TIMES, _MAIL),
        ("User: Mail the time in Rio to ann@example.com.",),
        "get_time(city=Rio)\nthen send_mail(to=ann@example.com, text=?)",
    ),
    ((*_TIMES, _MAIL), ("User: How late is it in Rio?",), "get_time(city=Rio)"),
    (
        _HOTELS,
        ("User: Find a hotel in Nice and book it for two.",),
        "find_hotels(city=Nice)\nthen book_hotel(hotel=?, people=2)",
    ),
    (_HOTELS, ("User: Book the Azur for two.",), _AZUR),
    (_HOTELS, ("User: Is there a hotel in Bonn?",), "find_hotels(city=Bonn)"),
    (
        _SALES,
        ("User: How did sales of milk and of bread develop in Chile from 1990 to 2000, and of bread in Peru?",),
        "sales(product=milk, country=Chile, first=1990, last=2000)\n"
        "sales(product=bread, country=Chile, first=1990, last=2000)\n"
        "sales(product=bread, country=Peru, first=1990, last=2000)",
    ),
    (_SALES, ("User: Who invented bread?",), NONE),
]

OUTLINE = Question(_OUTLINE, _OUTLINE_EXAMPLES, "Calls:")
NEXT = Question(_NEXT, _NEXT_EXAMPLES, "Next calls:")
