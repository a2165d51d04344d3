/* Classifies an image file with an exported model: TensorFlow's C API, and nothing of Python.

     classify EXPORT_DIR INPUT_NODE OUTPUT_NODE STATUS_INDEX CLASSES_INDEX PROBABILITIES_INDEX FILE

   The nodes and the outputs' indices are those of serving_default as `saved_model_cli show` prints them. Prints the
   classes, best first, with their probabilities; or the status, and exits with 1. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>

static void check(TF_Status *status) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "%s\n", TF_Message(status));
    exit(2);
  }
}

static void ignore(void *data, size_t length, void *argument) {}

int main(int argc, char **argv) {
  if (argc != 8) return 2;
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status);

  FILE *file = fopen(argv[7], "rb");
  if (!file) return 2;
  fseek(file, 0, SEEK_END);
  size_t size = (size_t)ftell(file);
  rewind(file);
  char *content = malloc(size + 1);
  size = fread(content, 1, size, file);
  fclose(file);

  TF_TString text;
  TF_StringInit(&text);
  TF_StringCopy(&text, content, size);
  int64_t one[] = {1};
  TF_Tensor *image = TF_NewTensor(TF_STRING, one, 1, &text, sizeof text, ignore, NULL);

  TF_Output input = {TF_GraphOperationByName(graph, argv[2]), 0};
  TF_Output outputs[3];
  TF_Tensor *answers[3];
  for (int i = 0; i < 3; i++)
    outputs[i] = (TF_Output){TF_GraphOperationByName(graph, argv[3]), atoi(argv[4 + i])};
  TF_SessionRun(session, NULL, &input, &image, 1, outputs, answers, 3, NULL, 0, NULL, status);
  check(status);

  const TF_TString *said = TF_TensorData(answers[0]);
  const TF_TString *classes = TF_TensorData(answers[1]);
  const float *probabilities = TF_TensorData(answers[2]);
  int refused = TF_StringGetSize(said) > 0;
  if (refused) printf("%.*s\n", (int)TF_StringGetSize(said), TF_StringGetDataPointer(said));
  for (int64_t i = 0; !refused && i < TF_Dim(answers[1], 1); i++)
    printf("%.6f %.*s\n", probabilities[i], (int)TF_StringGetSize(&classes[i]), TF_StringGetDataPointer(&classes[i]));

  for (int i = 0; i < 3; i++) TF_DeleteTensor(answers[i]);
  TF_DeleteTensor(image);
  TF_StringDealloc(&text);
  free(content);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return refused;
}
