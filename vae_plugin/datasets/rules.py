"""The rules by which files become images and a data set becomes what a run trains on, by version."""

from __future__ import annotations

from dataclasses import dataclass

CURRENT = 3


@dataclass(frozen=True)
class DataRules:
    """The rules of the data. A checkpoint holds their version, and its continuation goes by it.

    Attributes:
        version: 1 is release 0.1; 2 converts embedded colour profiles to sRGB, reads the usual image formats only,
            finds the images of folders and archives in one way, draws samples by the seed, and cuts out as it is
            what needs no resizing; 3 keeps more than 8 bits, reads arrays and any number of bands, and decodes large
            JPEGs smaller for small views.
    """

    version: int = CURRENT

    @property
    def convert_profiles(self) -> bool:
        """Whether an image with an embedded colour profile is converted to sRGB."""
        return self.version >= 2

    @property
    def usual_formats(self) -> bool:
        """Whether only the usual image formats are read, rather than all that Pillow knows."""
        return self.version >= 2

    @property
    def transparent_16_bits(self) -> bool:
        """Whether the colour that a 16-bit file declares transparent is, in gray, or is told about, in RGB."""
        return self.version >= 2

    @property
    def draw_samples(self) -> bool:
        """Whether `--max_train_samples` draws by the seed rather than taking the first."""
        return self.version >= 2

    @property
    def cut_as_it_is(self) -> bool:
        """Whether a part that needs no resizing is cut out; Pillow's resizing rounds the colours of what has alpha."""
        return self.version >= 2

    @property
    def one_way_to_find_files(self) -> bool:
        """Whether a local folder is read in the same way by `dataset_name` as by `train_data_dir`."""
        return self.version >= 2

    @property
    def read_whole_archives(self) -> bool:
        """Whether tar files are read to their end, in order and alike whether they are streamed or not."""
        return self.version >= 2

    @property
    def limit_unreadable(self) -> bool:
        """Whether a run stops by default where many images cannot be read."""
        return self.version >= 2

    @property
    def keep_depth(self) -> bool:
        """Whether 16 bits are kept rather than scaled to 8, and arrays, floats and any number of bands are read."""
        return self.version >= 3

    @property
    def reduce_jpegs(self) -> bool:
        """Whether JPEGs of which a view needs few pixels are decoded smaller, see `decoded.reduction`."""
        return self.version >= 3


LATEST = DataRules()
