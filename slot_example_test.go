package libcluster_test

import (
	"fmt"

	"github.com/libcluster/libcluster"
)

// Each instance does what is its own, and nobody hands it out.
func ExampleState_Owns() {
	mine := libcluster.State{Index: 2, Workers: 2, Total: 7} // cluster.State() has the real one
	for _, account := range []string{"ada", "barbara", "dennis", "edsger", "grace", "ken", "margaret", "rob"} {
		if mine.Owns(account) {
			fmt.Println(account)
		}
	}
	// Output:
	// barbara
	// dennis
	// margaret
}

// An instance with a queue for each of its workers.
func ExampleState_Worker() {
	mine := libcluster.State{Index: 2, Workers: 2, Total: 7}
	queues := make([][]string, mine.Workers)
	for _, account := range []string{"ada", "barbara", "dennis", "edsger", "grace", "ken", "margaret", "rob"} {
		if worker, ok := mine.Worker(account); ok {
			queues[worker-mine.Index] = append(queues[worker-mine.Index], account)
		}
	}
	fmt.Println(queues)
	// Output: [[dennis] [barbara margaret]]
}

// Rows with numbers.
func ExampleState_Holds() {
	mine := libcluster.State{Index: 2, Workers: 2, Total: 7}
	for row := int64(1); row <= 10; row++ {
		if mine.Holds(libcluster.Slot(row, mine.Total)) {
			fmt.Println("row", row)
		}
	}
	// Output:
	// row 1
	// row 2
}

// A table read by ranges of the first 16 bits of its key's hash.
func ExampleState_Range() {
	mine := libcluster.State{Index: 2, Workers: 2, Total: 7}
	from, to := mine.Range(1 << 16)
	fmt.Printf("SELECT … WHERE shard >= %d AND shard < %d\n", from, to)
	// Output: SELECT … WHERE shard >= 18724 AND shard < 37449
}

// A topic with a fixed number of partitions.
func ExampleState_Partitions() {
	mine := libcluster.State{Index: 2, Workers: 2, Total: 7}
	for partition := range mine.Partitions(16) {
		fmt.Println("partition", partition, "for worker", libcluster.Slot(partition, mine.Total)-mine.Index)
	}
	// Output:
	// partition 1 for worker 0
	// partition 2 for worker 1
	// partition 13 for worker 0
}
