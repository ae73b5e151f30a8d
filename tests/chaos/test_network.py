"""The network that can be cut: what the kernel is told, in which order. Nothing is cut here."""
import threading
import unittest
from unittest import mock

from cluster import Network


class TwoLanes(unittest.TestCase):
    def test_a_cut_that_has_ended_stays_so(self):
        """One lane ends a cut while another one is making its own, and has read the rules before."""
        told = []

        def tell(lines):
            text = "\n".join(lines)
            if "second" in text and lane.ident is None:
                lane.start()
                lane.join(0.2)  # it may have to wait for us
            told.append(text)

        with mock.patch.object(Network, "_nft", side_effect=tell):
            network = Network()
            lane = threading.Thread(target=network.heal, args=("one",))
            network.cut("one", ["first"])
            network.cut("other", ["second"])
            lane.join()
        self.assertNotIn("first", told[-1])


if __name__ == "__main__":
    unittest.main(verbosity=0)
