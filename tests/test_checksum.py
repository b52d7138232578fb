import torch

from dfad_fast.checksum import checksum


def test_the_checksum_sees_every_part():
    def state():
        return {"a": [torch.arange(4.0), (1, 2.5, None)], "b": {"c": "text", "d": torch.tensor(True)}}

    assert checksum(state()) == checksum(state())
    others = [state() for _ in range(6)]
    others[0]["a"][0][1] += 1e-6
    others[1]["a"][1] = (1, 2.5, 0)
    others[2]["b"]["c"] = "texT"
    others[3]["b"]["d"] = torch.tensor(False)
    others[4]["a"][0] = others[4]["a"][0].to(torch.float64)
    others[5]["a"][0] = others[5]["a"][0].reshape(2, 2)
    assert len({checksum(other) for other in [state(), *others]}) == 7
