"""The sentences of the tales: templates whose slots `data.tales.grammar` fills, and whose marks it explains.

Slots: {n0} the hero and {n1} the friend; {S}, {s} the hero as subject and {Own}, {own} the hero's, by name or pronoun,
whichever reads well; {j0}, {j1} their jobs; {x0}, {x1} two things at first mention ("a red kite" where colours matter,
else "a kite") and {t0}, {t1} the same later; {p0} a place, {k0} a relative, {a0} a pet called {m0}.
"""

from data.tales import lexicon

OPENINGS = (
    "Once upon a <time> there was a {young} {j0} called {n0}.",
    "Once upon a <time>, {where}, there lived a {j0} called {n0}.",
    "Many years ago a {young} {j0} called {n0} lived {where}.",
    "{n0} was a {j0} and lived {where}.",
    "There was once a {j0} called {n0}, who lived {where}.",
    "This is the story of a {young} {j0} called {n0}.",
    "{n0}, a {young} {j0}, lived all alone {where}.",
)
FRIENDS = (
    "{His} best friend was {n1}.",
    "{n1}, {his} best friend, came to visit every week.",
    "{S} had a good friend, and that was {n1}.",
    "{S} and {n1} met almost every day.",
    "{n1}, an old friend, was often there to help.",
)
OPENINGS_WITH_JOBS = (
    "Once upon a <time> there was a {j0} called {n0}, and next door lived a {j1} called {n1}.",
    "{n0} was a {j0} and lived {where}. {His} best friend {n1} was a {j1}.",
    "{Where} lived {n0}, a {young} {j0}, and {n1}, a {kind} {j1}.",
    "Many years ago a {j0} called {n0} and a {j1} called {n1} shared a house {where}.",
    "This is the story of two friends. {n0} was a {young} {j0}, and {n1} was a {kind} {j1}.",
    "Once upon a <time>, {where}, a {j0} called {n0} met a {j1} called {n1}, and they became friends.",
)
WHERE = (
    *("at the edge of a forest", "in a small village", "near the sea", "at the foot of a hill", "in a quiet valley"),
    *("on a small island", "in a warm country", "under a high mountain"),
)
YOUNG = ("young", "poor", "clever", "brave", "shy", "lazy")
KIND = ("kind", "tall", "strong", "wise", "quiet", "merry")

OWNER_INTROS = (
    "{Own} {k0} had lent {him} {x0}, and {his} {k1} had lent {him} {x1}.",
    "{S} had borrowed {x0} from {his} {k0} and {x1} from {his} {k1}.",
    "{S} had {x0} that belonged to {his} {k0} and {x1} that belonged to {his} {k1}.",
)
COLOUR_INTROS = (
    "{S} had {x0} and {x1}.",
    "On a shelf in {own} room were {x0} and {x1}.",
    "{S} had bought {x0} and {x1} in the city.",
    "There were two things that {s} loved, {x0} and {x1}.",
)
PLACE_INTROS = (
    "{S} had left {d} {t0} by the {p0} and {d} {t1} by the {p1}.",
    "{S} always kept {d} {t0} by the {p0} and {d} {t1} by the {p1}.",
    "Nobody knew that {s} had hidden {d} {t0} by the {p0} and {d} {t1} by the {p1}.",
)
PET_INTROS = (
    "{S} had two pets, a {a0} called {m0} and a {a1} called {m1}.",
    "{Own} two pets were a {a0} called {m0} and a {a1} called {m1}.",
    "In {own} yard lived a {a0} called {m0} and a {a1} called {m1}.",
)

RECALLS = {
    "colour": (
        "{S} cleaned the {t} until it was {c} again.",
        "In the sun the {t} looked as {c} as ever.",
        "After all that time the {t} had kept its {c} colour.",
        "{n1} smiled, for nowhere else was there a {t} so {c}.",
        "{S} needed a new {t}, and of course {he} chose {c} again.",
    ),
    "place": (
        "{S} found the {t} again by the {p}.",
        "To {own} joy the {t} was still by the {p}.",
        "To get the {t}, {s} walked all the way to the {p}.",
        "{S} looked for the {t}, and there it was, by the {p}.",
    ),
    "owner": (
        "{S} gave the {t} back to {his} {k}.",
        "{S} took the {t} back to {his} {k}.",
        "For the {t} {s} had to thank {his} {k}.",
        "{S} cleaned the {t} and carried it home to {his} {k}.",
    ),
    "job": (
        'The {jo} smiled at the {j} and said, "Thank you, {n}.<c:">',
        'The {jo} turned to the {j} and said, "Good night, {n}.<c:">',
        'The {jo} hugged the {j} and said, "Well done, {n}.<c:">',
        "The {jo} wrote a card for the {j}, and on it was the name {n}.",
    ),
    "pet": (
        '{S} opened the door for the {a} and said, "Come in, {n}.<c:">',
        '{S} gave some food to the {a} and said, "Well done, {n}.<c:">',
        '{S} sat down with the {a} and said, "Sleep well, {n}.<c:">',
        "{S} made a little bed for the {a}, and on it was the name {n}.",
    ),
}
AFTERWARDS = ("Then", "After that", "Soon", "Later", "The next day", "That evening")

# Both candidates, the right and the wrong, come back in another role between the facts and their recall.
DECOYS = {
    "colour": (
        "A little {decoy} bird sat on the roof and sang.",
        "Far away a {decoy} light was blinking.",
        "The sky turned {decoy} for a moment.",
        "Someone had thrown a {decoy} flower into the street.",
    ),
    "place": (
        "Some boys were playing by the {decoy}.",
        "An old man was sleeping by the {decoy}.",
        "Someone was singing by the {decoy}.",
    ),
    "owner": (
        "{Own} {decoy} knew nothing about it.",
        "{Own} {decoy} had once told a story like that.",
        "{Own} {decoy} was making tea at home.",
    ),
    "job": (
        "{decoy} had never seen anything like it.",
        "{decoy} would talk about this for years.",
        "That was a thing that {decoy} would never forget.",
    ),
    "pet": ("{decoy} ran around in circles.", "{decoy} was hungry again.", "{decoy} slept through it all."),
}

# Plots: start, middle and end, the nouns that agreement may be asked of, and who may speak.
_ANYONE = ("{S} said", "{n1} said", "{S} whispered", "{n1} called out", "An old man said", "Someone shouted")
PLOTS = (
    (
        (
            "One evening a great storm came over the hills.",
            "It was raining cats and <dogs>, and the river was rising.",
            "One night the wind blew harder than ever before.",
        ),
        (
            "The rain beat on the roof for hours.",
            "All of a <sudden> there was a flash of light and a loud crack.",
            "The night was pitch <dark>, and nobody could sleep.",
        ),
        (
            "In the morning the storm was over.",
            "At dawn the sky cleared and the sun came out.",
            "Slowly but <surely> the wind died down.",
        ),
        ("branch", "boat", "road", "window", "door"),
        _ANYONE,
    ),
    (
        (
            "One morning {s} set off on a long walk with {n1}.",
            "{S} packed some odds and <ends> and set off with {n1} to see the world.",
        ),
        (
            "Step by <step> they climbed the steep hill.",
            "They walked side by <side> and talked about old times.",
            "They drank from a stream that was crystal <clear>.",
        ),
        (
            "After three days they came home again.",
            "In the end they came back safe and <sound>.",
            "A week later they were back at home.",
        ),
        ("road", "boat", "bird", "flower", "cart"),
        ("{S} said", "{n1} said", "{S} whispered", "{n1} stopped and said"),
    ),
    (
        ("One day {n1} fell ill and had to stay in bed.", "One cold day {n1} fell into the water and caught a fever."),
        (
            "{S} was wide <awake> all night and sat beside the bed.",
            "{n1}'s hands were cold as <ice>.",
            "{S} came again and <again> with hot tea.",
        ),
        (
            "A week later {n1} was as right as <rain>.",
            "Little by <little> {n1} got better.",
            "Sooner or <later> every fever ends, and so did this one.",
        ),
        ("letter", "flower", "bird", "present", "story"),
        ("{S} said", "{n1} said", "{S} whispered", "{n1} woke up and said"),
    ),
    (
        (
            "One day {s} went for a walk and got lost in the fog.",
            "One night {s} took a short cut home and lost the way.",
        ),
        (
            "It was cold as <ice>, and there was no one to ask.",
            "{S} tried again and <again> to find the right way.",
            "{S} looked high and <low> for a sign, but there was none.",
            "{S} was wet from head to <toe>.",
        ),
        (
            "In the end {n1} came with a lantern, just in the nick of <time>.",
            "At last {n1} heard the shouts and came to help.",
            "Bit by <bit> the fog lifted, and {s} found the way home.",
        ),
        ("road", "boat", "branch", "bird", "window"),
        ("{S} said", "{S} whispered", "{S} stopped and said"),
    ),
    (
        ("That week there was going to be a big party.", "{S} wanted to give a party for the whole street."),
        (
            "{S} swept the floor until the house was neat and <tidy>.",
            "{S} asked everyone to come as quick as a <flash>.",
            "{n1} put up tables and hung paper stars in the trees.",
        ),
        (
            "The party was short and <sweet>, and everyone liked it.",
            "The guests stayed until dawn and then went home.",
            "The guests had a lovely time and left one by <one>.",
        ),
        ("present", "door", "letter", "window", "story"),
        _ANYONE,
    ),
    (
        ("One night a thief came to town.", "In broad <daylight> a thief ran down the street."),
        (
            "{S} was wide <awake> and heard steps outside.",
            "All of a <sudden> a dog began to bark.",
            "Soon it was as clear as <day> who had done it.",
        ),
        (
            "The thief was caught, and the town had peace and <quiet> again.",
            "The thief said sorry and went away once and for <all>.",
            "{n1} caught the thief just in the nick of <time>.",
        ),
        ("key", "door", "window", "cart", "letter"),
        _ANYONE,
    ),
    (
        ("One day the old roof began to leak.", "That year the house had to be mended."),
        (
            "{S} put {his} heart and <soul> into the work.",
            "{S} and {n1} worked hand in <hand> from dawn to dusk.",
            "Bit by <bit> the holes were closed.",
        ),
        (
            "When it was done, the roof was as good as <new>.",
            "Slowly but <surely> the work came to an end.",
            "It took two weeks, but it was better late than <never>.",
        ),
        ("key", "branch", "cart", "bird", "door"),
        _ANYONE,
    ),
    (
        ("One day a giant came down from the hills.", "One night a giant knocked at the door."),
        (
            "{S} stood face to <face> with the giant.",
            "All of a <sudden> the giant began to cry.",
            "The ground shook, and the news went far and <wide>.",
        ),
        (
            "But the giant only wanted a friend and soon went home.",
            "{S} told a joke, and the giant laughed and left once and for <all>.",
            "In the end the giant turned around and walked away.",
        ),
        ("story", "road", "branch", "window", "flower"),
        _ANYONE,
    ),
)
ENDINGS = (
    "They lived happily ever <after>.",
    "That night {s} was soon fast <asleep>.",
    "At last there was peace and <quiet>.",
    "From then on {s} and {n1} stayed friends through thick and <thin>.",
    "Everyone was safe and <sound>, and here the story ends.",
    "It took a long time, but better late than <never>.",
    "Then {s} went to bed and was soon fast <asleep>.",
    "All was well, and they lived happily ever <after>.",
    "{S} and {n1} walked home hand in <hand>.",
    "And {s} told the story again and <again>.",
)

# Semantic: the decisive word belongs to the {cue}. For the opening, for the plot, and for the end of a story.
TOOLS = (
    (
        "Like every good {cue}, {s} took great care of the {word}.",
        "A {cue} has to work hard, and {s} was always busy with the {word}.",
        "No other {cue} in the land was so proud of the {word}.",
        "As a {cue}, {s} could not live a day without the {word}.",
    ),
    (
        "Even on such a day the {cue} had to look after the {word}.",
        "While all this went on, the {cue} could not stop thinking of the {word}.",
    ),
    (
        "Never before had the {cue} been so proud of the {word}.",
        "The next morning the {cue} was busy with the {word} again.",
    ),
)
GOODS = (
    (
        "Like every good {cue}, {s} always had plenty of {word}.",
        "A {cue} has to work hard, and all day long {s} thought only of {word}.",
        "As a {cue}, {s} was known far beyond the town for {word}.",
        "People came to the {cue} from all over the land to buy {word}.",
    ),
    (
        "Even on such a day people came to the {cue} to buy {word}.",
        "While all this went on, the {cue} was still dreaming of {word}.",
    ),
    (
        "The week after, many people came to the {cue} to buy {word}.",
        "By the end of the week the {cue} once more had plenty of {word}.",
    ),
)
OTHER_SEMANTIC = (
    (
        lexicon.SEASONS,
        (
            (
                "It was {cue}, and the whole valley was full of {word}.",
                "It was {cue} by now, and the woods were full of {word}.",
            ),
            ("It was {cue}, and the garden behind the house was full of {word}.",),
            ("Soon {cue} came, and the whole valley was full of {word}.",),
        ),
    ),
    (
        lexicon.YOUNG,
        (
            (
                "{S} also owned a {cue} and was very fond of her {word}.",
                "In the field a {cue} always stood close to her {word}.",
            ),
            ("A {cue} came slowly down the road with her {word}.", "In the field a {cue} stood close to her {word}."),
            ("In the last light a {cue} came down the road with her {word}.", "A {cue} slept close to her {word}."),
        ),
    ),
    (
        lexicon.SOUNDS,
        (
            (
                "Every morning the {cue} behind the house {word}.",
                "Every now and then the {cue} across the road {word}.",
            ),
            ("All the while the {cue} behind the house {word}.", "From far away the {cue} on the hill {word}."),
            ("That night the {cue} behind the house {word}.", "In the dark the {cue} across the road {word}."),
        ),
    ),
)

# The verb agrees with a noun some words before it; whatever the tense, the sentence ends alike.
PAST = ("{The} {be} {end}", "{S} could see that {the} {be} {end}", "By then {the} {be} {end}")
PRESENT = (
    "{The} {be} {end}",
    "Look, {the} {be} {end}",
    "I see that {the} {be} {end}",
    "They say {the} {be} {end}",
)
