"""Rules that refuse an option which would have no effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..wording import either
from .declare import GIVEN, Except, OptionError
from .fields import Option, excused_in, flat, given_in, options_of
from .values import as_typed


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Any = _Unknown()  # the value of a fact that only a later call of `judge` will know


def judge(options: Any, facts: Mapping[str, Any] | None = None, words: Mapping[str, str] | None = None) -> None:
    """Refuse what was given and would have no effect, by the `when` of each option.

    The class of the options may have `facts()`, what its options mean together, and `phrases`, the wording for
    conditions on facts: condition, or (condition, first accepted value) -> the rest of the sentence that begins with
    the option, in which {value} is the fact.

    Options from the file of a version that wrote all of them are excused: nobody asked for those, they count as not
    given from here on.

    Args:
        options: an instance.
        facts: what is known beside the options: name -> value. Default: `options.facts()`. A condition on something
            that is neither an option nor a fact, or is `UNKNOWN`, is left to a later call.
        words: the wording of facts: "name" -> the option that decides it, "name=value" -> its value.

    Raises:
        OptionError: for the first such option; the message says what it needs.
    """
    if facts is None:
        facts = options.facts() if hasattr(options, "facts") else {}
    known = {**flat(options), **facts}
    given, excused = given_in(options), excused_in(options)
    for name, option in options_of(type(options)).items():
        if name not in given or has_effect(option, known):
            continue
        if name in excused:
            object.__setattr__(options, "_given", given_in(options) - {name})
            continue
        when = option.declaration.when
        condition = next(c for c, accepted in when.items() if c in known and not _holds(known[c], accepted))
        reason = _reason(options, name, condition, when[condition], known[condition], words or {})
        raise OptionError(f"--{name} {reason}")


def has_effect(option: Option, known: Mapping[str, Any]) -> bool:
    """Whether an option has an effect beside the options or facts that are known."""
    return all(_holds(known[name], accepted) for name, accepted in option.declaration.when.items() if name in known)


def _holds(value: Any, accepted: Any) -> bool:
    if value is UNKNOWN:
        return True
    if accepted is GIVEN:
        return value is not None and value is not False
    return (value in accepted) != isinstance(accepted, Except)


def _reason(options: Any, name: str, condition: str, accepted: Any, value: Any, words: Mapping[str, str]) -> str:
    """The rest of the sentence that begins with the name of the option."""
    phrases = getattr(options, "phrases", {})
    flag, shown = words.get(condition, f"--{condition}"), words.get(f"{condition}={value}", value)
    if accepted is GIVEN:
        return f"needs {flag}: give both, or leave --{name} out."
    phrase = phrases.get(condition) or phrases.get((condition, accepted[0]))
    if phrase is not None:
        return f"{phrase.format(value=shown)}: leave it out."
    if isinstance(accepted, Except):
        return f"has no effect with {flag} {shown}: leave one of them out."
    if accepted in ((None,), (False,)):
        return f"has no effect with {flag}: leave one of them out."
    return f"applies only to {flag} {either(map(str, accepted))}, not to {shown}: leave it out."


def check_new_model(options: Any, config: Mapping[str, Any], source: str) -> None:
    """Refuse an option of a new model that does not agree with the model that exists.

    Args:
        options: an instance.
        config: of the existing model.
        source: where it comes from, for the error.

    Raises:
        OptionError: for the first such option.
    """
    given, excused = given_in(options), excused_in(options)
    for name, opt in options_of(type(options)).items():
        field = opt.declaration.of_new_model
        if field is None or name not in given or name in excused:
            continue
        value, fact = opt.get(options), config.get(field)
        fact = tuple(fact) if isinstance(fact, list) else fact
        if value == fact or str(value) == str(fact):
            continue
        has = "which has no such setting" if fact is None else f"which has {as_typed(fact)}"
        raise OptionError(f"--{name} {as_typed(value)} conflicts with {source}, {has}. It applies only to new models.")
