"""Endpoints from Python: a socket that allows less than its maker may."""

from __future__ import annotations

import os
import unittest

import mapcap
from broker_case import BrokerCase


class EndpointTest(BrokerCase):
    def test_whoever_connects_may_do_what_it_says(self) -> None:
        broker = self.connect()
        broker.reserve("models/a", size=4096)
        self.addCleanup(broker.revoke, "models/a")
        made = broker.endpoint_create(
            "readers",
            names=["models/**"],
            verbs=["open"],
            access="ro",
            limits=mapcap.Amounts(connections=2),
            labels={"role": "reader"},
        )
        self.assertEqual((made.access, made.state, made.ttl), ("ro", "active", None))
        self.assertEqual(made.limits, mapcap.Amounts(connections=2))
        details = broker.endpoint("readers")
        self.assertEqual((details.names, details.verbs, details.pools), (("models/**",), ("open",), ()))
        self.assertEqual(details.labels, {"role": "reader"})
        # One that has ended is listed for as long as somebody holds what it was charged for.
        self.assertEqual([one.id for one in broker.endpoints() if one.state == "active"], ["readers"])
        with mapcap.connect(made.socket, reconnect_within=0) as through:
            with self.assertRaises(mapcap.Denied):
                through.open("models/a", "rw")
            with self.assertRaises(mapcap.Denied):
                through.create("models/b", size=4096)
            with through.open("models/a"):
                info, holders = broker.show("models/a")
                if info.confinement != "clone":
                    self.skipTest(f"nobody hears who holds {info.confinement} grants")
                self.assertEqual([(one.endpoint, one.ended) for one in holders], [("readers", False)])
                self.assertEqual(broker.status().keeper.sockets, 1)
                self.assertIn("readers", [one.endpoint for one in broker.quota()])
                self.assertEqual(broker.endpoint("readers").endpoint.used.connections, 1)
                ended = broker.endpoint_end("readers")
                self.assertEqual([one.ended for one in broker.show("models/a")[1]], [True])
            self.assertEqual((ended.opened, ended.opened_regions, ended.revoked), (1, ("models/a",), 0))
            with self.assertRaises(mapcap.Unavailable):
                through.list()
        with self.assertRaises(mapcap.NotFound):
            broker.endpoint("readers")

    def test_what_it_made_ends_with_it_and_what_it_opened_if_asked(self) -> None:
        broker = self.connect()
        broker.reserve("models/b", size=4096)
        made = broker.endpoint_create("filler", names=["**"])
        with mapcap.connect(made.socket, reconnect_within=0) as through:
            self.assertEqual(through.reserve("filled/x", size=4096).endpoint, "filler")
            with through.open("models/b"):
                ended = broker.endpoint_end("filler", revoke_opened=True)
        self.assertEqual((ended.revoked, ended.cut, ended.opened), (1, 1, 0))
        self.until(lambda: not broker.list("models/b"), "the revoked region is gone")

    def test_a_descriptor_of_its_directory_is_enough(self) -> None:
        broker = self.connect()
        broker.endpoint_create("given", ttl=3600.0, on_end="keep")
        fd = broker.endpoint_directory("given")
        try:
            with mapcap.connect(f"/proc/self/fd/{fd}/mapcap.sock") as through:
                self.assertEqual(through.list(), [])
            self.assertEqual(os.listdir(f"/proc/self/fd/{fd}"), ["mapcap.sock"])
        finally:
            os.close(fd)
        renewed = broker.endpoint_renew("given", 7200.0)
        self.assertEqual((renewed.ttl, renewed.on_end), (7200.0, "keep"))
        broker.endpoint_end("given")

    def test_mistakes_are_told(self) -> None:
        broker = self.connect()
        with self.assertRaises(mapcap.Invalid):
            broker.endpoint_create("Big")
        with self.assertRaises(ValueError):
            broker.endpoint_create("e", on_end="vanish")
        with self.assertRaises(ValueError):
            broker.endpoint_create("e", access="rwx")
        with self.assertRaises(mapcap.Invalid):
            broker.endpoint_create("e", verbs=["quota-set"])
        with self.assertRaises(mapcap.NotFound):
            broker.endpoint_end("nobody")


if __name__ == "__main__":
    unittest.main()
