"""An option that would have no effect is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .declare import GIVEN, OptionError
from .fields import flat, given_in, options_of


def judge(options: Any, facts: Mapping[str, Any] | None = None, words: Mapping[str, str] | None = None) -> None:
    """Refuse what was given and would have no effect, by the `when` of each option.

    A class may have `facts()`, what its options say together, and `phrases`, sentences for conditions on facts.

    Args:
        options: an instance.
        facts: what is known of the run beside the options: name -> value. A condition on something that is neither an
            option nor a fact is left for a later call.
        words: how to say a fact: "name" -> the option that decides it, "name=value" -> words for its value.

    Raises:
        OptionError: for the first of them; it says what it needs.
    """
    if facts is None:
        facts = options.facts() if hasattr(options, "facts") else {}
    words = words or {}
    known = {**flat(options), **facts}
    declared, given = options_of(type(options)), given_in(options)
    for name in (name for name in declared if name in given):
        for condition, accepted in declared[name].declaration.when.items():
            if condition in known and not _holds(known[condition], accepted):
                raise OptionError(f"--{name} {_reason(options, condition, accepted, known[condition], words, name)}")


def _holds(value: Any, accepted: Any) -> bool:
    return value is not None and value is not False if accepted is GIVEN else value in accepted


def _reason(options: Any, condition: str, accepted: Any, value: Any, words: Mapping[str, str], name: str) -> str:
    """The rest of the sentence that begins with the name of the option."""
    phrases = getattr(options, "phrases", {})
    flag = words.get(condition, f"--{condition}")
    if accepted is GIVEN:
        return f"needs {flag}: give both, or leave --{name} out."
    phrase = phrases.get(condition) or phrases.get((condition, accepted[0]))
    if phrase is not None:
        return f"{phrase}: leave it out."
    if accepted in ((None,), (False,)):
        return f"has no effect with {flag}: leave one of them out."
    choices = " or ".join(str(choice) for choice in accepted)
    return f"applies only to {flag} {choices}, not to {words.get(f'{condition}={value}', value)}: leave it out."


def check_new_model(options: Any, config: Mapping[str, Any], source: str) -> None:
    """Refuse what was given of a new model where there is a model already, unless it has just that.

    Args:
        options: an instance.
        config: of the model that there is.
        source: where it comes from, for the error.

    Raises:
        OptionError: naming the first.
    """
    for name, opt in options_of(type(options)).items():
        field = opt.declaration.of_new_model
        if field is None or name not in given_in(options):
            continue
        given, fact = opt.get(options), config.get(field)
        fact = tuple(fact) if isinstance(fact, list) else fact
        if given != fact and str(given) != str(fact):
            has = f"which has {fact}" if field in config else "which has no such setting"
            shown = " ".join(map(str, given)) if isinstance(given, tuple) else given
            raise OptionError(f"--{name} {shown} conflicts with {source}, {has}. It applies only to new models.")
