"""Options declared once, as dataclass fields: flags, keys of YAML files, help and rules in one place."""

from .declare import GIVEN, Declaration, Except, OptionError, declared, group, option
from .fields import Option, changed, flat, give, given_in, keep_what_was, options_of, take_back, to_dict
from .files import save
from .parse import build, parse
from .rules import UNKNOWN, has_effect, judge
from .values import LARGEST_SEED, as_typed, plain_number
from .weighted import weights_of

__all__ = [
    "GIVEN",
    "LARGEST_SEED",
    "UNKNOWN",
    "Declaration",
    "Except",
    "Option",
    "OptionError",
    "as_typed",
    "build",
    "changed",
    "declared",
    "flat",
    "give",
    "given_in",
    "group",
    "has_effect",
    "judge",
    "keep_what_was",
    "option",
    "options_of",
    "parse",
    "plain_number",
    "save",
    "take_back",
    "to_dict",
    "weights_of",
]
