"""The papers that introduced what the models are made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A paper on arXiv.

    Attributes:
        key: for citations, `kingma2013auto`.
        authors: separated by " and ", as BibTeX has them.
        title: of the paper.
        year: of its first version.
        arxiv: number on arXiv.
    """

    key: str
    authors: str
    title: str
    year: int
    arxiv: str

    @property
    def url(self) -> str:
        """Address of the abstract."""
        return f"https://arxiv.org/abs/{self.arxiv}"

    @property
    def bibtex(self) -> str:
        """The entry for a bibliography."""
        fields = {
            "title": self.title,
            "author": self.authors,
            "year": self.year,
            "eprint": self.arxiv,
            "archivePrefix": "arXiv",
        }
        return f"@article{{{self.key},\n" + "".join(f"  {k} = {{{v}}},\n" for k, v in fields.items()) + "}"


VAE = Paper(
    "kingma2013auto", "Kingma, Diederik P. and Welling, Max", "Auto-Encoding Variational Bayes", 2013, "1312.6114"
)
VQVAE = Paper(
    "vandenoord2017neural",
    "van den Oord, Aaron and Vinyals, Oriol and Kavukcuoglu, Koray",
    "Neural Discrete Representation Learning",
    2017,
    "1711.00937",
)
VQGAN = Paper(
    "esser2020taming",
    "Esser, Patrick and Rombach, Robin and Ommer, Björn",
    "Taming Transformers for High-Resolution Image Synthesis",
    2020,
    "2012.09841",
)
LATENT_DIFFUSION = Paper(
    "rombach2021high",
    "Rombach, Robin and Blattmann, Andreas and Lorenz, Dominik and Esser, Patrick and Ommer, Björn",
    "High-Resolution Image Synthesis with Latent Diffusion Models",
    2021,
    "2112.10752",
)
ASYMMETRIC = Paper(
    "zhu2023designing",
    "Zhu, Zixin and Feng, Xuelu and Chen, Dongdong and Bao, Jianmin and Wang, Le and Chen, Yinpeng and Yuan, Lu and "
    "Hua, Gang",
    "Designing a Better Asymmetric VQGAN for StableDiffusion",
    2023,
    "2306.04632",
)
DEEP_COMPRESSION = Paper(
    "chen2024deep",
    "Chen, Junyu and Cai, Han and Chen, Junsong and Xie, Enze and Yang, Shang and Tang, Haotian and Li, Muyang and "
    "Lu, Yao and Han, Song",
    "Deep Compression Autoencoder for Efficient High-Resolution Diffusion Models",
    2024,
    "2410.10733",
)
WAN = Paper(
    "wan2025wan",
    "{Team Wan} and Wang, Ang and Ai, Baole and others",
    "Wan: Open and Advanced Large-Scale Video Generative Models",
    2025,
    "2503.20314",
)
QWEN_IMAGE = Paper(
    "wu2025qwen",
    "Wu, Chenfei and others",
    "Qwen-Image Technical Report",
    2025,
    "2508.02324",
)
REPRESENTATION_AUTOENCODER = Paper(
    "zheng2025diffusion",
    "Zheng, Boyang and Ma, Nanye and Tong, Shengbang and Xie, Saining",
    "Diffusion Transformers with Representation Autoencoders",
    2025,
    "2510.11690",
)
QUANTIZERS = {  # by `quantizer_type`, of those that came after the VQ-VAE
    "fsq": Paper(
        "mentzer2023finite",
        "Mentzer, Fabian and Minnen, David and Agustsson, Eirikur and Tschannen, Michael",
        "Finite Scalar Quantization: VQ-VAE Made Simple",
        2023,
        "2309.15505",
    ),
    "lfq": Paper(
        "yu2023language",
        "Yu, Lijun and others",
        "Language Model Beats Diffusion -- Tokenizer is Key to Visual Generation",
        2023,
        "2310.05737",
    ),
    "rvq": Paper(
        "lee2022autoregressive",
        "Lee, Doyup and Kim, Chiheon and Kim, Saehoon and Cho, Minsu and Han, Wook-Shin",
        "Autoregressive Image Generation using Residual Quantization",
        2022,
        "2203.01941",
    ),
    "simvq": Paper(
        "zhu2024addressing",
        "Zhu, Yongxin and Li, Bocheng and Xin, Yifei and Xia, Zhihua and Xu, Linli",
        "Addressing Representation Collapse in Vector Quantized Models with One Linear Layer",
        2024,
        "2411.02038",
    ),
}
