"""Three bundles reserved at once, and an actor in each of them."""

import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

ray.init(num_cpus=6)


@ray.remote(num_cpus=2)
class Worker:
    def where(self):
        return ray.get_runtime_context().get_placement_group_id()


for strategy in ("PACK", "SPREAD", "STRICT_PACK"):
    pg = placement_group([{"CPU": 2}] * 3, strategy=strategy)
    ray.get(pg.ready())
    workers = [
        Worker.options(
            scheduling_strategy=ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
                placement_group=pg, placement_group_bundle_index=i
            )
        ).remote()
        for i in range(3)
    ]
    assert ray.get([worker.where.remote() for worker in workers]) == [pg.id.hex()] * 3
    assert placement_group_table(pg)["strategy"] == strategy
    del workers
    remove_placement_group(pg)
print("ok")
