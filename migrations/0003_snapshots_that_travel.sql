PRAGMA foreign_keys=OFF;--> statement-breakpoint
CREATE TABLE `__new_images` (
	`image_id` text PRIMARY KEY NOT NULL,
	`environment` text NOT NULL,
	`sandbox_id` text NOT NULL,
	`name` text,
	`status` text NOT NULL,
	`error` text,
	`parent` text,
	`backend` text NOT NULL,
	`runtime` text,
	`host_id` text,
	`snapshot_id` text,
	`digest` text,
	`size` integer,
	`created_at` integer NOT NULL,
	`expires_at` integer
);
--> statement-breakpoint
INSERT INTO `__new_images`("image_id", "environment", "sandbox_id", "name", "status", "error", "parent", "backend", "runtime", "host_id", "snapshot_id", "digest", "size", "created_at", "expires_at") SELECT "image_id", "environment", "sandbox_id", "name", 'ready', NULL, NULL, "backend", (SELECT "runtime" FROM "hosts" WHERE "hosts"."host_id" = "images"."host_id"), "host_id", "snapshot_id", NULL, "size", "created_at", "expires_at" FROM `images`;--> statement-breakpoint
DROP TABLE `images`;--> statement-breakpoint
ALTER TABLE `__new_images` RENAME TO `images`;--> statement-breakpoint
PRAGMA foreign_keys=ON;--> statement-breakpoint
CREATE INDEX `images_by_time` ON `images` (`environment`,`created_at`,`image_id`);--> statement-breakpoint
CREATE INDEX `images_by_end` ON `images` (`environment`,`expires_at`);