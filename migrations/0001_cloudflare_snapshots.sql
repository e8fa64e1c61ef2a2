PRAGMA foreign_keys=OFF;--> statement-breakpoint
CREATE TABLE `__new_images` (
	`image_id` text PRIMARY KEY NOT NULL,
	`environment` text NOT NULL,
	`sandbox_id` text NOT NULL,
	`name` text,
	`backend` text NOT NULL,
	`host_id` text,
	`snapshot_id` text,
	`size` integer NOT NULL,
	`created_at` integer NOT NULL,
	`expires_at` integer NOT NULL
);
--> statement-breakpoint
INSERT INTO `__new_images`("image_id", "environment", "sandbox_id", "name", "backend", "host_id", "snapshot_id", "size", "created_at", "expires_at") SELECT "image_id", "environment", "sandbox_id", "name", "backend", "host_id", NULL, "size", "created_at", "expires_at" FROM `images`;--> statement-breakpoint
DROP TABLE `images`;--> statement-breakpoint
ALTER TABLE `__new_images` RENAME TO `images`;--> statement-breakpoint
PRAGMA foreign_keys=ON;--> statement-breakpoint
CREATE INDEX `images_by_time` ON `images` (`environment`,`created_at`,`image_id`);