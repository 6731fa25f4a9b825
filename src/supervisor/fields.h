/* Fields of a reply to trimtabctl: numbers that are unlimited or unknown are null. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

/* UINT64_MAX, which is also USEC_NEVER: null. */
static inline void put_number(struct json_object *o, const char *key, uint64_t value)
{
	json_object_object_add(
		o, key,
		value == UINT64_MAX ? NULL : json_object_new_int64((int64_t)value));
}

static inline void put_signed(struct json_object *o, const char *key, int64_t value)
{
	json_object_object_add(o, key, json_object_new_int64(value));
}

static inline void put_text(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, value ? json_object_new_string(value) : NULL);
}

static inline void put_bool(struct json_object *o, const char *key, bool value)
{
	json_object_object_add(o, key, json_object_new_boolean(value));
}
