# mypy: disable-error-code="arg-type"
"""Places and areas: distances, borders, the antimeridian and the poles, bad coordinates. Wrong types are the point."""

import json
import math

import numpy as np
import pytest
from tests.support.filter_oracle import bits_to_list
from tests.support.places_oracle import lies_within, metres

from vicinal.errors import InvalidFilter
from vicinal.filter import Columns, cardinality, count_bits, evaluate, parse_filter, to_mapping
from vicinal.filter.areas import Area, area_of
from vicinal.filter.columns import Kind
from vicinal.filter.geo import GeoBoundingBox, GeoPoint, GeoPolygon, GeoRadius
from vicinal.filter.model import Filter
from vicinal.filter.place_grid import grid

BERLIN, PARIS = {"lon": 13.4050, "lat": 52.5200}, {"lon": 2.3522, "lat": 48.8566}


def matching(filter, *values):
    columns = Columns()
    columns.extend([json.dumps({"at": v}).encode() for v in values])
    tree = parse_filter(filter)
    plain = bits_to_list(evaluate(tree, columns, None, len(values)), len(values))
    columns.seal()
    assert bits_to_list(evaluate(tree, columns, None, len(values)), len(values)) == plain
    return [i for i, found in enumerate(plain) if found]


def test_berlin_and_paris_are_877_kilometres_apart():
    assert metres(GeoPoint(**BERLIN), GeoPoint(**PARIS)) == pytest.approx(877_464, abs=10)
    for radius, found in ((877_400, [0]), (877_500, [0, 1])):
        tree = {"must": {"key": "at", "geo_radius": {"center": BERLIN, "radius": radius}}}
        assert matching(tree, BERLIN, PARIS) == found
        assert matching(f"geo_radius(at, (13.405, 52.52), {radius})", BERLIN, PARIS) == found


def test_what_is_no_place_is_in_no_area():
    world = "geo_bounding_box(at, (-180, 90), (180, -90))"
    nothing = [{"lon": 181, "lat": 0}, {"lon": 0, "lat": -91}, {"lon": True, "lat": 0}, {"lon": "1", "lat": 0}]
    assert matching(world, *nothing, {"lon": 1}, "Berlin", None, [], [[BERLIN]], [[]]) == []
    assert matching(world, BERLIN, [PARIS], [None, "x", PARIS], {**BERLIN, "name": "x"}) == [0, 1, 2, 3]


def test_a_list_of_places_holds_if_one_does():
    near_paris = GeoRadius("at", GeoPoint(**PARIS), 1_000)
    assert matching(Filter(must=(near_paris,)), [BERLIN, PARIS], [BERLIN], [{"lon": 2.3522}, {"lat": 48.8566}]) == [0]
    assert matching(Filter(must_not=(near_paris,)), [BERLIN, PARIS], [BERLIN], {}) == [1, 2]


def test_areas_reach_across_the_antimeridian_and_over_the_pole():
    fiji, samoa, pole = {"lon": 178.5, "lat": -17.8}, {"lon": -172.1, "lat": -13.8}, {"lon": 77, "lat": 90}
    assert matching("geo_bounding_box(at, (170, 0), (-170, -30))", fiji, samoa, BERLIN) == [0, 1]
    assert matching("geo_bounding_box(at, (-170, 0), (170, -30))", fiji, samoa, {"lon": 0, "lat": -1}) == [2]
    assert matching("geo_radius(at, (178.5, -17.8), 1200000)", fiji, samoa, BERLIN) == [0, 1]
    assert matching("geo_radius(at, (-172.1, -13.8), 1200000)", fiji, samoa, BERLIN) == [0, 1]
    assert matching("geo_radius(at, (-100, 89), 112000)", pole, {"lon": 80, "lat": 89.9}, BERLIN) == [0]
    assert matching("geo_radius(at, (0, 0), 20015200)", {"lon": 180, "lat": 0}, BERLIN) == [0, 1]


def test_borders_belong_to_boxes_and_radii():
    corner = {"lon": 10, "lat": 20}
    assert matching("geo_bounding_box(at, (10, 20), (10, 20))", corner, {"lon": 10, "lat": 20.000001}) == [0]
    assert matching("geo_radius(at, (10, 20), 0)", corner, {"lon": 10, "lat": 20.000001}) == [0]


def test_a_polygon_with_a_hole():
    ring = "((0, 0), (10, 0), (10, 10), (0, 10), (0, 0))"
    hole = "((4, 4), (6, 4), (6, 6), (4, 6))"
    inside, middle, outside = {"lon": 2, "lat": 2}, {"lon": 5, "lat": 5}, {"lon": 11, "lat": 5}
    assert matching(f"geo_polygon(at, {ring})", inside, middle, outside) == [0, 1]
    assert matching(f"geo_polygon(at, {ring}, {hole})", inside, middle, outside) == [0]
    tree = parse_filter(f"geo_polygon(at, {ring}, {hole})")
    assert tree is not None
    assert parse_filter(to_mapping(tree)) == tree
    assert to_mapping(tree)["must"][0]["geo_polygon"]["exterior"]["points"][-1] == {"lon": 0.0, "lat": 0.0}


def test_many_places_at_every_radius_sorted_or_not():
    rng = np.random.default_rng(3)
    spread = (rng.random((3_000, 2)) - 0.5) * (360, 180)
    places = [{"lon": lon, "lat": lat} for lon, lat in spread.tolist()]
    columns = Columns()
    columns.extend([json.dumps({"at": p}).encode() for p in places])
    columns.seal()
    for center, radius in (
        (GeoPoint(179.9, 10), 2e6),
        (GeoPoint(0, 89), 1e6),
        (GeoPoint(-5, 40), 1e7),
        (GeoPoint(3, 3), 2e5),
    ):
        asked = GeoRadius("at", center, radius)
        bits = evaluate(Filter(must=(asked,)), columns, None, len(places))
        assert bits_to_list(bits, len(places)) == [lies_within(p, asked) for p in places]
        found = cardinality(Filter(must=(asked,)), columns, len(places))
        assert found.low <= count_bits(bits) <= found.high
        assert found.estimate == pytest.approx(count_bits(bits), abs=150)


def test_only_the_places_of_cells_that_the_border_crosses_are_looked_at():
    columns = Columns()
    columns.extend([json.dumps({"at": {"lon": i % 200 / 2, "lat": i // 200 / 10}}).encode() for i in range(80_000)])
    columns.seal()
    column = columns.column(("at",))
    assert column is not None
    values = column.kinds[Kind.PLACE]
    looked = []
    area = area_of(GeoRadius("at", GeoPoint(50, 20), 1_500_000))

    class Counting(Area):
        def __call__(self, places):
            looked.append(places.size)
            return super().__call__(places)

    counting = Counting(area.lons, area.south, area.north, area.inside, area.cells)
    found = count_bits(values.bits(counting, 0, 80_000))
    assert found > 10_000
    assert sum(looked) < found * 2 / 3  # all between the meridians were five times as many


@pytest.mark.parametrize(
    ("bad", "where", "says"),
    [
        ({"geo_radius": {"center": {"lon": 200, "lat": 0}, "radius": 1}}, "must[0].geo_radius", "center.lon must lie"),
        ({"geo_radius": {"center": {"lon": 0, "lat": math.nan}, "radius": 1}}, "must[0].geo_radius", "center.lat"),
        ({"geo_radius": {"center": {"lon": 0, "lat": "1"}, "radius": 1}}, "must[0].geo_radius", "a number of degrees"),
        ({"geo_radius": {"center": {"lon": 0}, "radius": 1}}, "must[0].geo_radius", "center must have lon and lat"),
        ({"geo_radius": {"center": 5, "radius": 1}}, "must[0].geo_radius", "center must be"),
        ({"geo_radius": {"center": BERLIN, "radius": -1}}, "must[0].geo_radius", "radius must be"),
        ({"geo_radius": {"center": BERLIN, "radius": math.inf}}, "must[0].geo_radius", "radius must be"),
        ({"geo_radius": {"center": BERLIN, "radius": True}}, "must[0].geo_radius", "radius must be"),
        ({"geo_radius": {"center": BERLIN}}, "must[0].geo_radius", "radius is missing"),
        ({"geo_radius": {"center": BERLIN, "metres": 1}}, "must[0].geo_radius", "unknown member 'metres'"),
        ({"geo_bounding_box": {"top_left": PARIS, "bottom_right": BERLIN}}, "must[0].geo_bounding_box", "south of"),
        ({"geo_bounding_box": {"top_left": PARIS}}, "must[0].geo_bounding_box", "bottom_right is missing"),
        ({"geo_polygon": {"exterior": {"points": [BERLIN, PARIS]}}}, "must[0].geo_polygon", "at least 3 corners"),
        ({"geo_polygon": {"exterior": {"ring": []}}}, "must[0].geo_polygon", "must have points"),
        ({"geo_polygon": {"exterior": [BERLIN] * 20_000}}, "must[0].geo_polygon", "at most 10000"),
        ({"geo_polygon": {}}, "must[0].geo_polygon", "exterior is missing"),
    ],
)
def test_bad_coordinates_name_the_clause(bad, where, says):
    with pytest.raises(InvalidFilter) as caught:
        parse_filter({"must": [{"key": "at", **bad}]})
    assert caught.value.field == where
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("geo_radius(at, (200, 0), 5)", "character 0: center.lon must lie"),
        ("geo_radius(at, (1, 0))", "character 0: geo_radius has a key and 2 more arguments, not 1"),
        ("geo_radius(at, (1, 0), 5", "expected ,"),
        ("geo_radius('at', (1, 0), 5)", "expected a key"),
        ("geo_radius(at, (((1, 0))), 5)", "expected a value"),
        ("geo_polygon(at)", "1 more arguments, not 0"),
        ("geo_circle(at, (1, 0), 5)", "expected a comparison"),
    ],
)
def test_bad_functions_name_the_character(text, says):
    with pytest.raises(InvalidFilter, match="filter, at character") as caught:
        parse_filter(text)
    assert says in caught.value.message


def test_a_key_may_be_called_like_a_function():
    assert parse_filter("geo_radius = 3") == parse_filter({"key": "geo_radius", "match": {"value": 3}})
    nested = parse_filter("not geo_radius(`a.b`, (1, 2), 3) and (year = 1 or geo_polygon(c, ((0,0),(1,0),(1,1))))")
    assert nested is not None
    assert parse_filter(to_mapping(nested)) == nested


def test_forms_of_a_point_and_of_a_ring():
    assert GeoRadius("at", (1, 2), 3) == GeoRadius("at", {"lon": 1.0, "lat": np.float32(2)}, 3.0)
    square = [(0, 0), (1, 0), (1, 1)]
    assert GeoPolygon("at", square) == GeoPolygon("at", {"points": [*square, (0, 0)]})
    assert GeoBoundingBox("at", (1, 2), (3, 1)) != GeoBoundingBox("at", (1, 2), (3, 2))
    with pytest.raises(InvalidFilter, match="listed values"):
        Filter(must=[GeoPolygon("at", square * 2_000)] * 2)


_AREAS = {
    "disc": GeoRadius("at", GeoPoint(12, 48), 3e6),
    "disc over a pole": GeoRadius("at", GeoPoint(100, 85), 2.5e6),
    "disc across the antimeridian": GeoRadius("at", GeoPoint(-179, -20), 2e6),
    "most of the globe": GeoRadius("at", GeoPoint(0, 0), 1.9e7),
    "box across the antimeridian": GeoBoundingBox("at", GeoPoint(170, 30), GeoPoint(-100, -50)),
    "polygon with a hole": GeoPolygon(
        "at",
        ((-60, -40), (80, -30), (20, 0), (90, 60), (-70, 50)),
        (((-10, 10), (10, 30), (-20, 30)),),
    ),
}


@pytest.mark.parametrize("name", _AREAS)
def test_cells_that_are_taken_whole_hold_only_places_of_the_area(name, monkeypatch):
    monkeypatch.setattr("vicinal.filter.place_grid._CELL", 8)
    rng = np.random.default_rng(9)
    lons, lats = (
        np.append(rng.uniform(-180, 180, 6_000), [-180, 180, 0]),
        np.append(rng.uniform(-90, 90, 6_000), [90, -90, 0]),
    )
    places = lons + 1j * lats
    area = area_of(_AREAS[name])
    found = grid(np.arange(places.size, dtype=np.uint32), places, places.size)
    inside, outside = area.sides(found.boxes)
    truth = area(found.places)
    cell = np.repeat(np.arange(inside.size), np.diff(found.firsts))
    assert inside.any()
    assert truth[inside[cell]].all()
    assert not truth[outside[cell]].any()
    assert bits_to_list(found.bits(area), places.size) == area(places).tolist()
    low, about, high = found.counted(area)
    assert low <= truth.sum() <= high
    assert low <= about <= high
