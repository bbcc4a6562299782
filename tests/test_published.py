"""Facts about the published numbers."""

import numpy as np
import pytest

from minirewind import published


def test_the_table_has_the_papers_headline_numbers():
    """ICLR 2020, best t by validation at 9.31x, and its algorithm there."""
    def last(protocol, technique, network="resnet20"):
        [point] = [p for p in published.curve("paper", network, protocol, technique) if p.compression == 9.31]
        return point.median, point.low, point.high

    assert last("one_shot", "fine_tuning") == (-3.33, -3.88, -3.03)
    assert last("one_shot", "weight_rewinding") == (-2.56, -3.04, -2.29)
    assert last("iterative", "lr_rewinding", "resnet56") == (0.10, 0.06, 0.20)
    assert {p.compression: p.median for p in published.algorithm("resnet20")}[9.31] == -0.70


def test_every_point_lies_in_its_range_and_every_curve_is_in_order():
    assert all(p.low <= p.median <= p.high for p in published.points())
    for network in published.NAMES:
        for protocol in ("one_shot", "iterative"):
            for technique in ("fine_tuning", "weight_rewinding", "lr_rewinding"):
                compressions = [p.compression for p in published.curve("paper", network, protocol, technique)]
                assert len(compressions) >= 10
                assert (np.diff(compressions) > 0).all()


def test_a_sweep_is_over_the_papers_ten_times():
    sweep = published.sweep("resnet20", "one_shot", "lr_rewinding", 1 / 0.8**10)
    assert [p.retrain_fraction for p in sweep][::9] == [0.055, 1.0]
    assert len(sweep) == 10
    assert published.sweep("resnet20", "one_shot", "lr_rewinding", 100) == []


@pytest.mark.parametrize(("network", "dataset", "beside"), [
    ("resnet56", "cifar10", "resnet56"), ("resnet8-8", "cifar10", "resnet20"),
    ("resnet8-8", "cifar10 (JPEG copy)", "resnet20"), ("resnet20", "digits", None), ("resnet20", "cifar100", None)])
def test_published_numbers_stand_beside_the_same_data_only(network, dataset, beside):
    assert published.network_beside(network, dataset) == beside


def test_the_literature_is_named():
    for author, points in published.literature().items():
        assert author[0].isupper()
        assert all(p.network == published.ALGORITHM for p in points)
