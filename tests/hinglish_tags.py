"""Words of 72 Hinglish queries tagged by hand, before the tagger existed.

About every fourteenth validation row of Hinglish-TOP (Apache-2.0), by its id; the texts are not
copied. A letter a word: M Hindi, E English, O neither (numbers and names of people, places, firms,
products and events). English are also loan words as English spells them (time, station, minute),
weekdays and kinship words; M is also a Hindi word run together with an English one.
"""

TAGS = {
    "03002": "EOMMEM", "03005": "EEEMMMEEEEEEEEEEEE", "03007": "EEOOMOOEMMEM", "03019": "EOMMEM",
    "03021": "MEMM", "03024": "MEEMEEM", "03028": "OMMMMEMMMMEM", "03029": "EOOMEMM",
    "03070": "EMM", "03084": "OMEEM", "03099": "MEMEE", "03105": "OOMEMM", "03115": "MOMMMMM",
    "03156": "MEEMMM", "03180": "OMMMM", "03271": "OMMOMMMEEM", "03280": "MMEMMMMMMMOOOOMMM",
    "03334": "MEMMEMM", "03345": "MEEEEEEEE", "03352": "MMMEMEMM", "03355": "EMEEM",
    "03357": "OMEMMEEEEEEEEEEEE", "03373": "MEMMEMMMMMMMMM", "03411": "OMEEEMMMMM",
    "03438": "MMEEM",
    "03456": "OMOMEMEMMMMOOEMOEMMM", "03465": "MMOMMMEEM", "03474": "OMEMMMMMMEMMEMMMM",
    "03490": "EMMMMM", "03515": "OOMOOEMMM", "03526": "EMMMEMEM", "03531": "MMOEMMMMMMMMMMMMMMOMM",
    "03550": "MMOEMMEMM", "03553": "MMOEMMM", "03584": "EMEMMM", "03597": "MMMMEMMEM",
    "03602": "MEMOMMMMM", "03603": "OMEEMMEEEMEEEOOEMOEMMM", "03628": "MMMMMMM", "03692": "MEEMEM",
    "03719": "MMMMMMM", "03760": "OMEMMMMMMMMMEM", "03763": "EEEEEMMEEM", "03788": "OOMEMEMM",
    "03800": "MMMEEMMMMMMMEMMMMMEM", "03814": "OOMMMMEMEMM", "03815": "MEMEEMMMMM",
    "03839": "OOMOOMMEMMM", "03866": "EMOOMMMMEM", "03880": "MEMEEMMMMM", "03894": "OMMMMMMMMM",
    "03913": "OMMMMEMEMM", "03935": "MMMEMMM", "03958": "MMMMM", "03978": "OMMMMMMEMMMMMEEEM",
    "03984": "OMMMMMMMMEMOMEEMM", "04006": "OOMEMMOOMOOEM", "04042": "MMEEMM",
    "04059": "MMMMMEEMMM", "04076": "EEMMMMM", "04094": "MMMMMMM", "04095": "MOEMEMEM",
    "04100": "EMMMMMEEM", "04116": "OMMMMMMMMEMEEMEM", "04121": "OMMMMMMMM", "04130": "MMEEEEM",
    "04141": "MMMMMEMMM", "04159": "MOOMOOMEEEM", "04161": "OMOOEM", "04179": "MOEMMEM",
    "04185": "OMMEMEEMMMMMM", "04200": "MMMMMOOMMMMMMMOMMEEMMM",
}  # fmt: skip
