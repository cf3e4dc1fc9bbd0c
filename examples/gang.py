"""A placement group: workers that start together or not at all, on resources that nobody else can take meanwhile."""

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy


@ray.remote(num_cpus=1)
class Player:
    def __init__(self, part: int) -> None:
        self.part = part

    def play(self, notes: list[int]) -> list[int]:
        return [note + 12 * self.part for note in notes]


def main() -> None:
    ray.init(num_cpus=4)
    stage = placement_group([{"CPU": 1}] * 3, strategy="PACK")
    ray.get(stage.ready())
    print("free beside the group:", ray.available_resources().get("CPU", 0), "CPU")

    trio = [
        Player.options(
            scheduling_strategy=PlacementGroupSchedulingStrategy(stage, placement_group_bundle_index=part)
        ).remote(part)
        for part in range(3)
    ]
    for chord in zip(*ray.get([player.play.remote([60, 64, 67]) for player in trio]), strict=True):
        print(*chord)

    remove_placement_group(stage)  # what runs in it ends, and its resources are everybody's again
    ray.shutdown()


if __name__ == "__main__":
    main()
