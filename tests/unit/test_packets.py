"""Packets of invocations, as paho and the specification have them."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tinyfaas.gateway import packets
from tinyfaas.gateway.stream import Stream
from tinyfaas.model import Publication


def packet_of_paho(publication: Publication, properties: Properties | None) -> bytes:
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv311 if properties is None else MQTTv5)
    client.on_socket_register_write = lambda *_: None
    client._sock = socket.socket()
    try:
        client.publish(
            publication.topic, publication.payload, publication.qos, publication.retain, properties=properties
        )
        return bytes(client._out_packet[0]["packet"])
    finally:
        client._sock.close()
        client._sock = None


topics = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="#+"), min_size=1, max_size=60)


publications = st.builds(
    Publication, topics, st.binary(max_size=20_000), st.integers(0, 1), retain=st.booleans(), json=st.booleans()
)


@given(publications, st.none() | st.binary(), topics | st.just(""))
def test_a_message_looks_as_if_paho_had_made_it(
    publication: Publication, correlation: bytes | None, chain: str
) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if publication.json:
        properties.ContentType = "application/json"
    if correlation is not None:
        properties.CorrelationData = correlation
    if chain:
        properties.UserProperty = ("tinyfaas-chain", chain)
    packed = packets.properties(correlation, chain, json=publication.json)
    for wanted, ours in ((properties, packed), (None, b"")):
        assert packets.publish(publication, 1, ours) == packet_of_paho(publication, wanted)


def test_what_no_packet_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="more than MQTT can carry"):
        packets.publish(Publication("t" * 65_536, b""), 0, b"")
    with pytest.raises(ValueError, match="more than MQTT can carry"):
        packets.publish(Publication("t", bytes(268_435_455)), 0, b"")


@given(bodies=st.lists(st.binary(max_size=400), min_size=1, max_size=20), data=st.data())
def test_packets_are_found_whole_however_the_network_has_cut_them(bodies: list[bytes], data: st.DataObject) -> None:
    sent = b"".join(b"\x30" + packets.length_bytes(len(body)) + body for body in bodies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        stream, found, rest = Stream(ours), [], b""
        for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
            theirs.sendall(sent[begin:end])
            try:
                while (packet := stream.packet()) is not None:
                    assert not rest
                    found.append(packet)
                rest += stream.recv(1 << 16)  # as paho does with what is not whole
            except BlockingIOError:
                pass
            begun = packets.whole(rest, 0)
            while begun is not None:
                found.append((rest[0], rest[begun[0] : begun[1]]))
                rest = rest[begun[1] :]
                begun = packets.whole(rest, 0)
            if rest:
                return  # the test has no paho that would wait for the end of it
        assert found == [(0x30, body) for body in bodies]


def test_a_length_that_never_ends_is_no_packet() -> None:
    assert packets.whole(b"\x30\xff\xff\xff\xff\x01" + bytes(100), 0) is None
