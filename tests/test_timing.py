from hvqcodec import Codec
from hvqcodec.timing import record, step
from tests.helpers import Pixels


def test_every_step_of_the_main_path_is_recorded(codec: Codec, cat: Pixels) -> None:
    with record() as encoding:
        data = codec.compress(cat[:64, :64])
    with record() as decoding:
        codec.decompress(data)
    both = {"map", "tables", "range coding"}
    assert {"read", "analysis", "quantiser", "estimate of bits", "hyper-analysis"} < set(encoding)
    assert {"synthesis", "write"} < set(decoding)
    assert both <= set(encoding) & set(decoding)
    assert min(encoding.values()) > 0


def test_nothing_is_recorded_outside() -> None:
    with record() as steps:
        with step("inside"):
            pass
        with step("inside"):
            pass
    with step("outside"):
        pass
    assert set(steps) == {"inside"}


def test_records_do_not_reach_into_each_other() -> None:
    with record() as outer:
        with record() as inner, step("inner"):
            pass
        with step("outer"):
            pass
    assert (set(outer), set(inner)) == ({"outer"}, {"inner"})
