"""Messages that arrive out of order, from several threads."""

import random
import threading

import pytest

from vae_plugin.widgets.turns import Turns


def test_messages_are_handled_in_the_order_of_their_numbers():
    for seed in range(20):
        handled = []
        turns = Turns(handled.append)
        order = list(range(1, 30))
        random.Random(seed).shuffle(order)
        for number in order:
            turns.take("view", number, number == 1, number)
        assert handled == list(range(1, 30))


def test_threads_do_not_handle_at_the_same_time_nor_out_of_order():
    handled, inside = [], []

    def handle(number):
        inside.append(number)
        assert len(inside) == 1
        handled.append(number)
        inside.remove(number)

    turns = Turns(handle)
    threads = [
        threading.Thread(target=lambda k=k: [turns.take("view", n, n == 1, n) for n in range(1 + k, 301, 3)])
        for k in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert handled == list(range(1, 301))


def test_senders_do_not_wait_for_each_other():
    handled = []
    turns = Turns(handled.append)
    turns.take("a", 2, False, "a2")
    turns.take("b", 1, True, "b1")
    assert handled == ["b1"]
    turns.take("a", 1, True, "a1")
    assert handled == ["b1", "a1", "a2"]


def test_after_a_loss_it_goes_on():
    handled = []
    turns = Turns(handled.append)
    turns.take("view", 1, True, 1)
    turns.take("view", 3, False, 3)
    turns.take("view", 5, True, 5)  # 2 and 4 never come
    turns.take("view", 6, False, 6)
    assert handled == [1, 5, 6]


def test_an_interrupted_handler_does_not_block_the_next():
    handled = []

    def handle(number):
        if number == 1:
            raise KeyboardInterrupt
        handled.append(number)

    turns = Turns(handle)
    with pytest.raises(KeyboardInterrupt):
        turns.take("view", 1, True, 1)
    turns.take("view", 2, False, 2)
    assert handled == [2]
