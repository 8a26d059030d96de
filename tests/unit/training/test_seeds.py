"""The numbers that runs and images depend on never change, and no two generators share them."""

from itertools import product

from training.seeds import Purpose, epoch_generator, example_generator, image_generator


def test_the_generators_are_those_of_every_earlier_run_and_image() -> None:
    assert image_generator(5, 3).initial_seed() == 8065153966420768690
    assert example_generator(5, 2, 3).initial_seed() == 2146116753810035302
    assert epoch_generator(5, 2, Purpose.ORDER).integers(10**9) == 792834091
    assert epoch_generator(5, 2, Purpose.CROP).integers(10**9) == 795629300


def test_neighbouring_seeds_epochs_and_indices_have_generators_of_their_own() -> None:
    images = [image_generator(*numbers).initial_seed() for numbers in product(range(3), repeat=2)]
    examples = [
        example_generator(*numbers).initial_seed() for numbers in product(range(3), repeat=3)
    ]
    assert len({*images, *examples}) == len(images) + len(examples)
