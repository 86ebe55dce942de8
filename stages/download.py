"""Stage download: the unchanged raw archives of the chosen source, in data/raw/."""

from stages.acquisition.demo import write_demo
from stages.acquisition.sources import OFFICIAL, fetch_official, take_local
from stages.core.files import remove_others, write_checksums
from stages.core.params import load_params
from stages.core.paths import RAW
from stages.core.sections import GOOGLE_DRIVE
from stages.core.stage import run_stage


def main() -> None:
    """Fetch, copy or draw the archives; then remove those of other sources."""
    data = load_params().data
    RAW.mkdir(parents=True, exist_ok=True)
    if data.source in OFFICIAL:
        mirror = None if data.mirror == GOOGLE_DRIVE else data.mirror
        archives = fetch_official(data.source, RAW, mirror)
    elif data.source == "local":
        archives = take_local(data.local, RAW, data.follow_links)
    else:
        archives = [RAW / "demo.tar"]
        write_demo(archives[0], data.demo.portraits, data.demo.seed)
    remove_others(RAW, archives)
    write_checksums(RAW)
    size = sum(archive.stat().st_size for archive in archives)
    plural = "s" * (len(archives) != 1)
    print(f"download: {data.source}, {len(archives)} archive{plural}, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_stage(main)
