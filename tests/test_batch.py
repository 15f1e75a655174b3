"""What becomes of samples on their way into a batch, and of reads that come short."""

import os

import torch

from wavelit.data.well import WellDataset


def test_samples_changed_before_collating_are_what_the_batch_holds(shared_well_folder):
    dataset = WellDataset(str(shared_well_folder), well_split_name="train", n_steps_input=2)
    plain = dataset.collate(dataset.__getitems__([0, 3]))
    replaced = dataset.__getitems__([0, 3])
    replaced[1]["input_fields"] = replaced[1]["input_fields"] * 2
    torch.testing.assert_close(dataset.collate(replaced).fields[1], 2 * plain.fields[1])
    turned = dataset.__getitems__([0, 3])
    turned.reverse()
    batch = dataset.collate(turned)
    assert batch.indices.tolist() == [3, 0]
    torch.testing.assert_close(batch.fields, plain.fields.flip(0))
    fewer = dataset.__getitems__([0, 3])
    fewer.pop()
    assert len(dataset.collate(fewer).fields) == 1


def test_the_default_dtype_does_not_matter(shared_well_folder):
    dataset = WellDataset(str(shared_well_folder), well_split_name="train", n_steps_input=2)
    expected = dataset.collate(dataset.__getitems__([0]))
    torch.set_default_dtype(torch.float64)
    try:
        batch = dataset.collate(dataset.__getitems__([0]))
    finally:
        torch.set_default_dtype(torch.float32)
    assert batch.fields.dtype == torch.float32
    torch.testing.assert_close(batch.fields, expected.fields)


def test_short_reads_are_read_on(shared_well_folder, monkeypatch):
    dataset = WellDataset(str(shared_well_folder), well_split_name="train", n_steps_input=2)
    expected = dataset.collate(dataset.__getitems__([1]))
    whole = os.preadv

    def short(descriptor, buffers, place):
        return whole(descriptor, [memoryview(buffers[0]).cast("B")[:100]], place)

    monkeypatch.setattr(os, "preadv", short)
    torch.testing.assert_close(dataset.collate(dataset.__getitems__([1])).fields, expected.fields)
