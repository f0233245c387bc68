/* libcurl as a client, with one easy handle.
 *
 * client URL[,BYTES] ...   one JSON verdict a line for each base URL
 */
#include <curl/curl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_BYTES = 65536, PERIOD = 251, TEXT_MAX = 16384 };

struct reply {
  char text[TEXT_MAX + 1];
  size_t length;
  bool patterned;
  bool spoilt;
};

static size_t on_field(char *data, size_t size, size_t count, void *user) {
  struct reply *reply = user;
  const char wanted[] = "x-pattern: mod251";
  if (size * count >= sizeof wanted - 1 && strncasecmp(data, wanted, sizeof wanted - 1) == 0) reply->patterned = true;
  return size * count;
}

static size_t on_data(char *data, size_t size, size_t count, void *user) {
  struct reply *reply = user;
  size_t length = size * count;
  if (reply->length + length <= TEXT_MAX) {
    memcpy(reply->text + reply->length, data, length);
    reply->text[reply->length + length] = 0;
  }
  for (size_t i = 0; reply->patterned && i < length; i++) {
    if ((unsigned char)data[i] != (reply->length + i) % PERIOD) reply->spoilt = true;
  }
  reply->length += length;
  return length;
}

/* Returns whether the answer was 200 and whole; the connection is kept by the handle. */
static bool fetch(CURL *handle, const char *base, const char *path, const char *body, struct reply *reply, long *connects, char *error) {
  char url[2048];
  long status = 0;
  memset(reply, 0, sizeof *reply);
  snprintf(url, sizeof url, "%s%s", base, path);
  curl_easy_reset(handle);
  curl_easy_setopt(handle, CURLOPT_URL, url);
  curl_easy_setopt(handle, CURLOPT_TIMEOUT, 60L);
  curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, on_field);
  curl_easy_setopt(handle, CURLOPT_HEADERDATA, reply);
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_data);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, reply);
  struct curl_slist *fields = curl_slist_append(NULL, "Content-Type: text/plain");
  if (body) {
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, fields);
  }
  CURLcode code = curl_easy_perform(handle);
  if (code != CURLE_OK && !error[0]) snprintf(error, CURL_ERROR_SIZE, "%s", curl_easy_strerror(code));
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
  curl_easy_getinfo(handle, CURLINFO_NUM_CONNECTS, connects);
  curl_slist_free_all(fields);
  if (code == CURLE_OK && status != 200) snprintf(error, CURL_ERROR_SIZE, "%s: %ld", path, status);
  return code == CURLE_OK && status == 200 && !reply->spoilt;
}

static bool run(CURL *handle, const char *base, size_t bytes) {
  static struct reply reply;
  char error[CURL_ERROR_SIZE] = "", path[64];
  long connects = 0, all_connects = 0;
  bool get = fetch(handle, base, "/get?word=caf%C3%A9", NULL, &reply, &connects, error) && strstr(reply.text, "word");
  bool post = fetch(handle, base, "/post", "posted by c", &reply, &connects, error) && strstr(reply.text, "posted by c");
  bool kept = true;
  for (int i = 0; i < 10; i++) {
    kept &= fetch(handle, base, "/get", NULL, &reply, &connects, error);
    all_connects += connects;
  }
  kept &= all_connects == 0;
  snprintf(path, sizeof path, "/stream-bytes/%zu", bytes);
  bool streamed = fetch(handle, base, path, NULL, &reply, &connects, error) && reply.length == bytes;
  bool ok = get && post && kept && streamed;
  printf("{\"client\":\"c\",\"base\":\"%s\",\"get\":%s,\"post\":%s,\"keep_alive\":%s,\"stream_bytes\":%zu,\"ok\":%s", base, get ? "true" : "false",
         post ? "true" : "false", kept ? "true" : "false", reply.length, ok ? "true" : "false");
  printf(error[0] ? ",\"error\":\"%s\"}\n" : "}\n", error);
  fflush(stdout);
  return ok;
}

int main(int count, char **arguments) {
  bool all = true;
  curl_global_init(CURL_GLOBAL_DEFAULT);
  CURL *handle = curl_easy_init();
  for (int i = 1; i < count; i++) {
    char *comma = strchr(arguments[i], ',');
    size_t bytes = comma ? strtoul(comma + 1, NULL, 10) : DEFAULT_BYTES;
    if (comma) *comma = 0;
    all &= run(handle, arguments[i], bytes);
  }
  curl_easy_cleanup(handle);
  curl_global_cleanup();
  return all ? 0 : 1;
}
