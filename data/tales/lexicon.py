"""The words of the tales: what may fill a slot, and which words belong together.

One idea keeps the corpus honest: the candidates for a slot are interchangeable. Every tool is good after "the", any
hero has any job, and every plural stands as often before "was" as every singular, so that nothing but the relation
itself says which word is right.
"""

FAR = 25
"""Words from what decides a word to that word, from which on their relation is long-range."""

BOYS = ("Tom", "Ben", "Sam", "Jack", "Dan", "Max", "Tim", "Fred")
GIRLS = ("Ann", "Mary", "Lucy", "Kate", "Jane", "Sara", "Emma", "Nina")
# What belongs to what: of a job its tools, of a season what it brings, of an animal its voice.
TOOLS = {
    "baker": ("oven", "dough"),
    "farmer": ("plough", "tractor"),
    "tailor": ("needle", "cloth"),
    "smith": ("anvil", "forge"),
    "painter": ("brush", "paint"),
    "gardener": ("spade", "rake"),
    "potter": ("kiln", "clay"),
    "fisher": ("net", "hook"),
}
SEASONS = {
    "winter": ("snow", "frost"),
    "spring": ("blossom", "buds"),
    "summer": ("sunshine", "bees"),
    "autumn": ("mushrooms", "acorns"),
}
SOUNDS = {
    "cow": ("mooed",),
    "sheep": ("bleated",),
    "horse": ("neighed",),
    "pig": ("grunted",),
    "hen": ("clucked",),
    "duck": ("quacked",),
    "goose": ("honked",),
    "frog": ("croaked",),
}

# Fixed collocations: the words that start one, and the word that must follow.
COLLOCATIONS = {
    "once upon a": "time",
    "all of a": "sudden",
    "safe and": "sound",
    "pitch": "dark",
    "sooner or": "later",
    "again and": "again",
    "high and": "low",
    "little by": "little",
    "side by": "side",
    "hand in": "hand",
    "was wide": "awake",
    "soon fast": "asleep",
    "one by": "one",
    "step by": "step",
    "bit by": "bit",
    "peace and": "quiet",
    "far and": "wide",
    "cold as": "ice",
    "as clear as": "day",
    "quick as a": "flash",
    "neat and": "tidy",
    "crystal": "clear",
    "slowly but": "surely",
    "sick and": "tired",
    "face to": "face",
    "cats and": "dogs",
    "odds and": "ends",
    "thick and": "thin",
    "nick of": "time",
    "happily ever": "after",
    "right as": "rain",
    "as good as": "new",
    "heart and": "soul",
    "once and for": "all",
    "from head to": "toe",
    "late than": "never",
    "in broad": "daylight",
    "short and": "sweet",
}

# Number agreement, by head noun: (head, heads), preposition, adjectives, ((noun, nouns), ...), predicates.
AGREEMENT = {
    "key": (
        ("key", "keys"),
        "to",
        ("old", "small"),
        (("box", "boxes"), ("chest", "chests")),
        ("rusty", "lost", "heavy"),
    ),
    "door": (
        ("door", "doors"),
        "behind",
        ("old", "little"),
        (("shop", "shops"), ("cottage", "cottages")),
        ("open", "shut", "broken"),
    ),
    "window": (
        ("window", "windows"),
        "above",
        ("dark", "narrow"),
        (("yard", "yards"), ("lane", "lanes")),
        ("open", "shut", "dirty"),
    ),
    "road": (
        ("road", "roads"),
        "past",
        ("big", "poor"),
        (("farm", "farms"), ("castle", "castles")),
        ("muddy", "empty", "closed"),
    ),
    "letter": (
        ("letter", "letters"),
        "from",
        ("kind", "rich"),
        (("lady", "ladies"), ("prince", "princes")),
        ("short", "lost", "funny"),
    ),
    "branch": (
        ("branch", "branches"),
        "above",
        ("low", "little"),
        (("roof", "roofs"), ("bench", "benches")),
        ("bare", "wet", "broken"),
    ),
    "boat": (
        ("boat", "boats"),
        "near",
        ("little", "sandy"),
        (("island", "islands"), ("shore", "shores")),
        ("empty", "small", "slow"),
    ),
    "story": (
        ("story", "stories"),
        "about",
        ("brave", "wild"),
        (("pirate", "pirates"), ("dragon", "dragons")),
        ("short", "sad", "funny"),
    ),
    "bird": (
        ("bird", "birds"),
        "on",
        ("high", "wooden"),
        (("fence", "fences"), ("chimney", "chimneys")),
        ("quiet", "hungry", "small"),
    ),
    "flower": (
        ("flower", "flowers"),
        "beside",
        ("narrow", "sunny"),
        (("path", "paths"), ("stone", "stones")),
        ("dry", "pretty", "wild"),
    ),
    "present": (
        ("present", "presents"),
        "for",
        ("poor", "young"),
        (("child", "children"), ("woman", "women")),
        ("ready", "small", "pretty"),
    ),
    "cart": (
        ("cart", "carts"),
        "behind",
        ("tall", "busy"),
        (("hotel", "hotels"), ("station", "stations")),
        ("full", "empty", "broken"),
    ),
}
NUMBER = {  # noun: 0 singular, 1 plural
    noun: number
    for heads, _, _, others, _ in AGREEMENT.values()
    for nouns in (heads, *others)
    for number, noun in enumerate(nouns)
}

# A remark in speech (present) and in the tale itself (past): both end alike, so that the end does not say whether a
# quote is open.
REMARKS = (
    ("There is smoke over the hill", "There was smoke over the hill"),
    ("There is no time to lose", "There was no time to lose"),
    ("Something is moving in the bushes", "Something was moving in the bushes"),
    ("It is too far to walk", "It was too far to walk"),
    ("Nobody is at home", "Nobody was at home"),
    ("The water is very deep", "The water was very deep"),
    ("Someone is at the window", "Someone was at the window"),
    ("The wind is getting stronger", "The wind was getting stronger"),
)
CALM_REMARKS = (
    ("It is getting late", "It was getting late"),
    ("The moon is very bright", "The moon was very bright"),
    ("The fire is still warm", "The fire was still warm"),
    ("There is work to do", "There was work to do"),
    ("The stars are out", "The stars were out"),
    ("It is time to eat", "It was time to eat"),
    ("The tea is ready", "The tea was ready"),
    ("It is good to be home", "It was good to be home"),
)
