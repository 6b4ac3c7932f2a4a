"""Modules of the front end that calculate, run in a browser against the same calculation in Python."""

from __future__ import annotations

import math
import random
import re
from fractions import Fraction
from itertools import pairwise

import pytest

from vae_plugin.widgets.frontend import FOLDER, script

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

ADDRESS = "http://127.0.0.1/modules"  # served from the folder by the browser's own router
PLANE = "const scale = new scales.PlaneScale([[-3, 5], [0.5, 2]], [420, 300], 14);"


@pytest.fixture(scope="module")
def javascript(browser):
    """A function that runs the body of a JavaScript function with modules of the front end by name."""

    def serve(route):
        name = route.request.url.rsplit("/", 1)[1]
        if name == "page.html":
            route.fulfill(body="<!DOCTYPE html><title>modules</title>", content_type="text/html")
        elif name == "lab-as-sent.js":
            route.fulfill(body=script(), content_type="text/javascript")
        else:
            route.fulfill(body=(FOLDER / name).read_text(encoding="utf-8"), content_type="text/javascript")

    page = browser.context.new_page()
    page.route(f"{ADDRESS}/*", serve)
    page.goto(f"{ADDRESS}/page.html")

    def run(modules, body, argument=None):
        imports = "".join(f"const {name} = await import('{ADDRESS}/{name}.js');" for name in modules.split())
        return page.evaluate(f"async (given) => {{ {imports} {body} }}", argument)

    yield run
    page.close()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.js")), ids=lambda path: path.name)
def test_every_module_imports_what_it_uses(javascript, path):
    """A missing import goes unnoticed in the joined module, where all names share one scope."""
    javascript("", f"await import('{ADDRESS}/{path.name}');")  # fails on a name that its module does not export
    source = path.read_text(encoding="utf-8")
    imported = {name.strip() for names in re.findall(r"^import \{([^}]*)\}", source, re.M) for name in names.split(",")}
    code = re.sub(r"^import .*$|//.*", "", source, flags=re.M)
    for other in set(FOLDER.glob("*.js")) - {path}:
        exports = re.findall(r"^export (?:async )?(?:function|class|const) (\w+)", other.read_text("utf-8"), re.M)
        for name in set(exports) - imported:
            used = re.search(rf"(?<![\w.\"'-]){name}\(", code)
            own = re.search(rf"^ *(?:function |static |get )?{name}\(.*\{{$", code, re.M)
            assert own or not used, f"{path.name} uses {name} without importing it from {other.name}"


def test_the_joined_module_is_one_that_a_widget_can_load(javascript):
    assert javascript("", f"return typeof (await import('{ADDRESS}/lab-as-sent.js')).default.render") == "function"


def test_a_scale_maps_the_ranges_to_the_canvas_without_its_margin(javascript):
    corners = [[-3, 0.5], [5, 2], [1, 1.25]]
    pixels = javascript("scales", PLANE + "return given.map((point) => scale.toPixels(...point));", corners)
    # y grows upwards: the lower left corner of the data is at the bottom of the canvas.
    assert pixels == [[14, 286], [406, 14], [pytest.approx(210), pytest.approx(150)]]


def test_a_scale_and_its_inverse_return_the_same_point(javascript):
    draw = random.Random(0)
    points = [[draw.uniform(-3, 5), draw.uniform(0.5, 2)] for _ in range(100)]
    body = PLANE + "return given.map((point) => scale.toCoordinates(...scale.toPixels(...point)));"
    for there, back in zip(points, javascript("scales", body, points), strict=True):
        assert back == pytest.approx(there, abs=1e-9)


def test_pixels_outside_the_ranges_are_clamped(javascript):
    body = PLANE + "return given.map((pixel) => scale.toCoordinates(...pixel));"
    assert javascript("scales", body, [[-100, 999], [9999, -5]]) == [[-3, 0.5], [5, 2]]


def test_a_point_moves_by_fractions_of_the_ranges(javascript):
    body = PLANE + "return given.map(([point, steps]) => scale.moved(point, steps, 40));"
    moves = [[[1, 1], [1, 0]], [[1, 1], [0, -5]], [[4.9, 0.51], [1, -1]]]
    assert javascript("scales", body, moves) == [
        [pytest.approx(1.2), 1],
        [1, pytest.approx(1 - 5 * 1.5 / 40)],
        [pytest.approx(5.1), pytest.approx(0.5 + 0.01 - 1.5 / 40)],
    ]


@pytest.mark.parametrize(
    ("values", "expected"), [([1, -1, 0], [-1.16, 1.16]), ([2, 2], [-3.48, 3.48]), ([], [-3.48, 3.48])]
)
def test_the_range_of_a_map(javascript, values, expected):
    assert javascript("scales", "return scales.paddedRange(given, -3, 3);", values) == pytest.approx(expected)


def test_the_colours_of_quantities_grow_lighter_between_the_ends_of_viridis(javascript):
    colours = javascript("scales", "return Array.from({ length: 51 }, (_, i) => scales.viridis(i / 50));")
    rgb = [tuple(map(int, re.findall(r"\d+", colour))) for colour in colours]
    assert (rgb[0], rgb[-1]) == ((68, 1, 84), (253, 231, 37))
    lightness = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in rgb]
    assert all(a < b for a, b in pairwise(lightness))
    assert javascript("scales", "return given.map(scales.viridis);", [-1, 2]) == [colours[0], colours[-1]]


def test_sixty_four_categories_have_marks_of_their_own(javascript):
    body = """
      const names = Array.from({ length: 64 }, (_, i) => `name ${i}`);
      const label = { name: "kind", names, values: names.map((_, i) => i) };
      const { of, legend } = marks.markersOf(label, names.map((_, i) => 63 - i), document.body);
      return [names.map((_, i) => of(i)), legend().map((entry) => entry.textContent)];"""
    kinds, words = javascript("marks", body)
    assert len({(kind["colour"], kind["shape"]) for kind in kinds}) == 64
    assert words == [f"name {i}" for i in range(64)]


def test_quantities_are_marked_from_the_least_to_the_most_and_unknown_ones_apart(javascript):
    body = """
      const label = { name: "size", names: null, values: [10, null, 30, 20] };
      const { of, legend } = marks.markersOf(label, [2, 1, 0, 3], document.body);
      const colours = [1, 0, 0.5].map(scales.viridis);
      return [[0, 2, 3].map((i) => of(i).colour), colours, of(1).shape, legend().map((entry) => entry.textContent)];"""
    marked, expected, unknown, words = javascript("marks scales", body)
    assert marked == expected
    assert unknown == "cross"
    assert words == ["size: 10", "", "30"]


def test_a_space_finds_the_coordinates_of_its_images(javascript):
    body = """
      const keys = ["dimension 1", "direction 1", "channel 0"];
      const axes = keys.map((key) => ({ key, name: key.toUpperCase(), group: key.split(" ")[0], detail: "σ 1" }));
      const labels = [{ name: "digit", names: ["zero", "one"], values: [0, 1, 1, 0] }];
      const found = new space.LatentSpace({ axes, images: 2, rows: [3, 1] }, Float32Array.of(1, 2, 3, 4, 5, 6), labels,
        ["a.png", "b.png", "c.png", "d.png"]);
      return [found.column("direction 1"), found.options("direction"), found.describeImage(1),
        found.describeImage(-1), found.indexOf("elsewhere")];"""
    assert javascript("space", body) == [
        [2, 5],
        [
            {"value": key, "text": f"{key.upper()} (σ 1)"}  # by the name of the axis
            for key in ("direction 1", "dimension 1", "channel 0")
        ],
        "b.png, digit one",
        "none",
        -1,
    ]


def test_of_moves_along_an_axis_the_last_counts_and_other_edits_keep_their_order(javascript):
    moves = [[{"axis": "a", "value": 1}, {"axis": "b", "value": 1}], [{"axis": "a", "value": 2}]]
    painted = [[{"axis": "a", "value": 1}], [{"paint": {}}, {"axis": "a", "value": 2}]]
    body = "return given.map(([before, after]) => channel.mergeEdits(before, after));"
    assert javascript("channel", body, [moves, painted]) == [
        [{"axis": "b", "value": 1}, {"axis": "a", "value": 2}],
        painted[0] + painted[1],
    ]


@pytest.mark.parametrize("busy", [False, True])
def test_axes_of_more_images_bring_their_own_coordinates(javascript, busy):
    """Those of the axes before stay only where the answer to a change, which has its own, is on its way."""
    body = """
      const traits = { _info: { image: [3, 8, 8], labels: [], names: [] }, _points: new DataView(new ArrayBuffer(8)) };
      const model = { get: (name) => traits[name], on() {}, off() {}, send() {} };
      const own = new lab.Lab(model, "view");
      const axes = ["a", "b"].map((key) => ({ key, low: -1, high: 1 }));
      const publish = (coordinates, reference) => {
        traits._space = { axes, rows: [0], images: 1, coordinates, reference };
        own.readSpace();
      };
      publish([1, 2], [3, 4]);
      if (given) own.channel.edit([{ axis: "a", value: 5 }], "gesture");
      publish([6, 7], [8, 9]);
      own.close();
      return [own.values, own.reference];
    """
    assert javascript("lab", body, busy) == [[1, 2] if busy else [6, 7], [8, 9]]


def test_ticks_are_the_multiples_of_a_round_step(javascript):
    """The least of 1, 2 and 5 times a power of ten that is not below the range over the number asked for."""
    draw = random.Random(0)
    steps = [factor * Fraction(10) ** power for power in range(-9, 9) for factor in (1, 2, 5)]
    given, expected = [], []
    for _ in range(200):
        low, size, most = draw.uniform(-50, 50), 10 ** draw.uniform(-3, 4), draw.randint(1, 12)
        step = next(step for step in steps if step >= Fraction(size) / most)
        given.append([low, low + size, most])
        multiples = range(math.ceil(low / step), math.floor((low + size) / step) + 1)
        expected.append([pytest.approx(float(i * step), rel=1e-6, abs=1e-9) for i in multiples])
    assert javascript("ticks", "return given.map((three) => ticks.roundNumbers(...three));", given) == expected


def test_a_tick_stands_at_its_number_and_not_on_the_words(javascript):
    body = """
    const scale = new scales.PlaneScale([[-3, 5], [0.5, 2]], [420, 300], 0);
    const words = [];
    const context = { beginPath() {}, moveTo() {}, lineTo() {}, stroke() {}, strokeText() {},
      fillText(text, x, y) { words.push([text, x, y]); } };
    ticks.drawTicks(context, scale, [420, 300], [[100, 360], [40, 280]], "black", "white");
    return words;"""
    found = javascript("scales ticks", body)
    lower = [(text, x) for text, x, y in found if y == 300 - 8]
    left = [(text, y) for text, x, y in found if x == 8]
    assert lower == [(text, pytest.approx(420 * (float(text) + 3) / 8)) for text in ("0", "2")]  # -2 and 4 are covered
    assert left == [(text, pytest.approx(300 * (2 - float(text)) / 1.5)) for text in ("1", "1.5")]
    assert len(lower) + len(left) == len(found)


def test_ticks_of_a_narrow_range_are_told_apart(javascript):
    body = """
    const words = [];
    const nothing = () => {};
    const context = { beginPath: nothing, moveTo: nothing, lineTo: nothing, stroke: nothing, strokeText: nothing,
      fillText(text) { words.push(text); } };
    const scale = new scales.PlaneScale([[12.341, 12.349], [0, 1]], [420, 300], 0);
    ticks.drawTicks(context, scale, [420, 300], [[0, 420], [300, 300]], "black", "white");
    return words;"""
    assert javascript("scales ticks", body) == ["12.342", "12.344", "12.346", "12.348"]
