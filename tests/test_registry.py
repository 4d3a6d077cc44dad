"""What Registry and build_from_cfg promise."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Mapping
from typing import Annotated, Any

import pytest

from backbone_kit.errors import CheckpointError, ConfigError
from backbone_kit.registry import Registry, build_from_cfg

PARTS = Registry("part", supplied=("width",), options={"tag": str})
HOUSES = Registry("house")


@PARTS.register_module()
class Door:
    def __init__(self, width: int, height: int = 2, knobs: list[str] | None = None) -> None:
        if height < 0:
            raise ValueError("no door is that low")
        if height == 13:
            raise ConfigError("brings bad luck", ("height",))
        self.width, self.height, self.knobs = width, height, knobs
        if knobs is not None:
            knobs.append("mine")


@HOUSES.register_module(("House", "Home"))
class House:
    def __init__(self, floors: int, door: Annotated[Mapping[str, Any], PARTS] | None = None, name: str = "") -> None:
        self.floors, self.name = floors, name
        self.door = None if door is None else PARTS.construct(door, width=1)


@HOUSES.register_module()
class Villa(House):
    def __init__(self, pool: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pool = pool


class Lined(dict):
    """A mapping as the config loader makes them: it knows where its keys come from."""

    def __init__(self, lines: Mapping[str, int], **items: Any) -> None:
        super().__init__(items)
        self.lines = lines

    def source_of(self, key: str) -> str:
        return f"house.yaml:{self.lines[key]}"


# Registering


def test_a_registry_is_a_collection_of_names():
    registry = Registry("thing")
    assert len(registry) == 0
    assert repr(registry) == "Registry('thing': empty)"
    registry.register_module(module=Door)
    assert list(registry) == ["Door"]
    assert "Door" in registry
    assert "door" not in registry
    assert len(registry) == 1
    assert registry.get("Door") is Door
    assert registry.get("Window") is None
    assert ["Door"] not in registry
    assert registry.get(["Door"]) is None
    assert registry.module_dict == {"Door": Door}
    with pytest.raises(TypeError):
        registry.module_dict["Window"] = Door
    assert repr(registry) == "Registry('thing': Door)"


def test_every_form_of_registration():
    registry = Registry("thing")

    @registry.register_module
    class Bare:
        pass

    @registry.register_module()
    class Called:
        pass

    @registry.register_module("Alias")
    class Named:
        pass

    @registry.register_module(name=["One", "Two"])
    def function() -> int:
        return 2

    assert registry.register_module("Direct", module=Bare) is Bare
    registry.register_module("Part", module=functools.partial(Door, width=1))
    assert list(registry) == ["Bare", "Called", "Alias", "One", "Two", "Direct", "Part"]
    assert Named.__name__ == "Named"
    assert registry.build(dict(type="Two")) == 2
    assert registry.build(dict(type="Part", height=3)).height == 3


def test_a_duplicate_says_where_the_first_one_is():
    line = inspect.getsourcelines(Door)[1]
    with pytest.raises(
        ConfigError, match=rf"part 'Door' is already registered: .*Door in .*test_registry.py:{line}; .*force=True"
    ):
        PARTS.register_module("Door", module=House)
    assert PARTS.get("Door") is Door


def test_force_replaces():
    registry = Registry("thing")
    registry.register_module("A", module=Door)
    registry.register_module("A", force=True, module=House)
    assert registry.get("A") is House


def test_a_clash_of_several_names_registers_none():
    registry = Registry("thing")
    registry.register_module("B", module=Door)
    with pytest.raises(ConfigError, match="'B' is already registered"):
        registry.register_module(("A", "B"), module=House)
    assert list(registry) == ["B"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(name="A", module=3), "only classes and functions can be registered as thing, got 3"),
        (dict(name=3, module=Door), "thing: a name must be a string, got 3"),
        (dict(name=["A", 3], module=Door), "thing: a name must be a string, got 3"),
        (dict(module=functools.partial(Door, 1)), r"a name must be a string, got None; pass name='...'"),
    ],
)
def test_what_cannot_be_registered(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Registry("thing").register_module(**arguments)


# Building


def test_builds_by_name_by_class_and_with_defaults():
    assert build_from_cfg(dict(type="House", floors=2), HOUSES).floors == 2
    assert HOUSES.build(dict(type=House, floors=2)).floors == 2
    built = build_from_cfg(dict(floors=3), HOUSES, dict(type="Villa", floors=1, pool=False))
    assert (type(built), built.floors, built.pool) == (Villa, 3, False)


def test_the_given_dict_is_never_touched_at_any_depth():
    cfg = dict(type="House", floors=2, door=dict(type="Door", knobs=["round"]))
    defaults = dict(name="x")
    before = copy.deepcopy(cfg)
    assert build_from_cfg(cfg, HOUSES, defaults).door.knobs == ["round", "mine"]
    assert cfg == before
    assert defaults == dict(name="x")


def test_read_only_configs_build():
    cfg = types.MappingProxyType({"type": "House", "floors": 2, "door": types.MappingProxyType({"type": "Door"})})
    assert HOUSES.build(cfg).door.width == 1


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ("House", r"must be a dict with 'type', got 'House' \(str\)"),
        (None, r"must be a dict with 'type', got None \(NoneType\)"),
        (dict(floors=1), "'type' is missing: which house; registered: Home, House, Villa"),
        (dict(type="Hous", floors=1), r"type: unknown house 'Hous'; did you mean 'House'\?"),
        (dict(type="villa", floors=1), r"unknown house 'villa'; did you mean 'Villa'\?"),
        (dict(type="Xyzzy"), "unknown house 'Xyzzy'; registered: Home, House, Villa"),
        (
            dict(type="my.pkg.House", floors=1),
            r"'my.pkg.House'; did you mean 'House'\?; an import path needs custom_imports=dict\(imports=\['my.pkg'\]\)",
        ),
        (dict(type="os.getcwd"), "unknown house 'os.getcwd'"),
        (dict(type=3), "type: must be a registered house or a class, got 3"),
        (dict(type=["House"]), r"type: must be a registered house or a class, got \['House'\]"),
        (
            dict(type="House", flors=2),
            r"(?s)2 problems:.*flors: House has no .* did you mean 'floors'\?.*'floors' is missing",
        ),
        (dict(type="House", floors="2"), r"floors: must be an int, got '2' \(str\)"),
        (dict(type="House", floors=2, xyzzy=1), "xyzzy: House has no argument 'xyzzy'; it has: floors, door, name"),
        (dict(type="House", floors=2, door=dict(type="Dor")), r"door.type: unknown part 'Dor'; did you mean 'Door'\?"),
        (dict(type="House", floors=2, door=dict(type="Door", heigt=1)), r"door.heigt: Door has no .*'height'\?"),
        (dict(type="House", floors=2, door=dict(type="Door", tag=3)), r"door.tag: must be a string, got 3"),
        (dict(type="Villa", flors=2, floors=2), r"flors: Villa has no argument 'flors'; did you mean 'floors'\?"),
        (dict(type="Villa", floors=2, pool=1), r"pool: must be True or False, got 1"),
    ],
)
def test_mistakes_are_config_errors(cfg, message):
    with pytest.raises(ConfigError, match=message):
        HOUSES.build(cfg)


def test_not_a_registry():
    with pytest.raises(ConfigError, match="registry must be a Registry, got 'house'"):
        build_from_cfg(dict(type="House"), "house")


def test_all_problems_come_in_one_message_before_anything_is_built():
    built: list[int] = []

    class Counted(House):
        def __init__(self, **kwargs: Any) -> None:
            built.append(1)
            super().__init__(**kwargs)

    cfg = dict(type=Counted, floors="2", nam="x", door=dict(type="Door", height="low", colour="red"))
    with pytest.raises(ConfigError) as caught:
        HOUSES.build(cfg)
    assert [problem.path for problem in caught.value.problems] == [
        ("floors",),
        ("nam",),
        ("door", "height"),
        ("door", "colour"),
    ]
    assert str(caught.value).startswith("4 problems:\n  floors: must be an int")
    assert not built


def test_supplied_arguments_must_not_be_set_by_the_config():
    for construct in (lambda cfg: PARTS.construct(cfg, width=7), lambda cfg: PARTS.construct(cfg, 7)):
        assert construct(dict(type="Door")).width == 7
        with pytest.raises(ConfigError, match=r"(?s)2 problems.*colour.*width: is set by the layer .* to 7; remove it"):
            construct(dict(type="Door", width=5, colour="red"))


def test_options_belong_to_the_builder():
    assert PARTS.construct(dict(type="Door", tag="front"), width=1).height == 2


def test_errors_inside_a_constructor_have_the_class_and_the_key_path_in_front():
    with pytest.raises(ConfigError, match=r"^Door: ValueError: no door is that low$") as caught:
        PARTS.construct(dict(type="Door", height=-1), width=1)
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(ConfigError, match=r"^height: Door: brings bad luck$"):
        PARTS.construct(dict(type="Door", height=13), width=1)
    assert str(caught.value.within("model", "door")) == "model.door: Door: ValueError: no door is that low"


@pytest.mark.parametrize("kind", [CheckpointError, ImportError, MemoryError, KeyboardInterrupt])
def test_errors_that_are_no_config_errors_pass(kind):
    def broken() -> None:
        raise kind("as it was")

    with pytest.raises(kind, match="as it was"):
        HOUSES.build(dict(type=broken))


# Places


@pytest.mark.parametrize("defaults", [None, dict(name="x")])
def test_messages_name_file_and_line_where_the_mapping_knows_them(defaults):
    door = Lined(dict(type=7, heigt=8), type="Door", heigt=1)
    house = Lined(dict(type=3, floors=4, door=6), type="House", floors="2", door=door)
    with pytest.raises(ConfigError) as caught:
        build_from_cfg(house, HOUSES, defaults)
    assert [problem.source for problem in caught.value.problems] == ["house.yaml:4", "house.yaml:8"]
    assert "house.yaml:8: door.heigt: Door has no argument" in str(caught.value)


def test_what_is_missing_is_placed_at_the_config_that_lacks_it():
    with pytest.raises(ConfigError, match=r"^house.yaml:3: 'floors' is missing; House needs it"):
        HOUSES.build(Lined(dict(type=3), type="House"))
    with pytest.raises(ConfigError, match=r"^house.yaml:4: 'type' is missing"):
        HOUSES.build(Lined(dict(floors=4), floors=2))
    with pytest.raises(ConfigError, match=r"^house.yaml:6: door: 'type' is missing"):
        HOUSES.build(Lined(dict(type=3, floors=4, door=6), type="House", floors=2, door=dict(height=3)))


def test_errors_inside_a_constructor_are_placed_too():
    with pytest.raises(ConfigError, match=r"^house.yaml:8: height: Door: brings bad luck"):
        PARTS.construct(Lined(dict(type=7, height=8), type="Door", height=13), width=1)
    with pytest.raises(ConfigError, match=r"^house.yaml:7: Door: ValueError"):
        PARTS.construct(Lined(dict(type=7, height=8), type="Door", height=-1), width=1)


def test_places_reach_into_lists():
    @HOUSES.register_module(force=True)
    class Street:
        def __init__(self, doors: list[Annotated[Mapping[str, Any], PARTS]]) -> None:
            pass

    doors = [Lined(dict(type=5), type="Door"), Lined(dict(type=6), type="Dor")]
    with pytest.raises(ConfigError, match=r"^house.yaml:6: doors\[1\].type: unknown part 'Dor'"):
        HOUSES.build(Lined(dict(type=1, doors=4), type="Street", doors=doors))


def test_an_error_that_knows_its_place_keeps_it():
    def inner() -> None:
        raise ConfigError("is wrong", ("type",), source="other.yaml:1")

    with pytest.raises(ConfigError, match=r"^other.yaml:1: type: inner: is wrong"):
        HOUSES.build(Lined(dict(type=3), type=inner))


def test_a_config_that_was_right_is_checked_again_by_another_class_of_its_name() -> None:
    layers = Registry("layer")

    @layers.register_module("Sum")
    class First:
        def __init__(self, channels: int, scale: bool = True) -> None: ...

    cfg = {"type": "Sum", "channels": 1, "scale": True}
    assert layers.check(cfg) == layers.check(cfg) == []
    assert [problem.message for problem in layers.check({**cfg, "scale": 1})] == ["must be True or False, got 1 (int)"]

    @layers.register_module("Sum", force=True)
    class Second:
        def __init__(self, channels: int) -> None: ...

    (problem,) = layers.check(cfg)
    assert problem.path == ("scale",)
